//! What the administrator allows (config.toml, `installation`), and what an annotation may
//! choose within that (`annotations`).

pub mod annotations;
pub mod installation;
pub mod machine_choice;
