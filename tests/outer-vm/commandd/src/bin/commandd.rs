//! The command server as a program; runs inside the test host only.

use caisson_commandd::server::{READY, serve};

fn main() -> std::io::Result<()> {
    serve(|| println!("{READY}"))
}
