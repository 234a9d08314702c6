//! What tests of whole containers have in common.
//!
//! `settings` says what is tested, `story` what a test is, `isolation` gives
//! each its own processes, mounts and network, `scene` the directory it plays in.
//! `bundle`, `container` and `terminal` are what callers of a runtime do;
//! `namespace` is where engines put interfaces, `leftovers` is the proof that nothing stays behind, `wait` the only way to
//! wait. Knows no single test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on has failed"
)]

pub mod bundle;
pub mod container;
pub mod isolation;
pub mod leftovers;
pub mod namespace;
pub mod output;
pub mod scene;
pub mod settings;
pub mod story;
pub mod systemd;
pub mod terminal;
pub mod wait;

pub use bundle::Bundle;
pub use container::Container;
pub use namespace::Namespace;
pub use output::Output;
pub use scene::Scene;
pub use settings::{Machine, Settings};
pub use story::Story;
