//! Generates the messages, the blocking client and the async server from
//! `proto/agent.proto`, without protoc.

use std::path::{Path, PathBuf};

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

fn main() -> Result<(), std::io::Error> {
    println!("cargo:rerun-if-changed=proto/agent.proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    generate(&out.join("client"), false)?;
    generate(&out.join("server"), true)
}

/// The client blocks and the server is async, so each is generated on its own.
fn generate(directory: &Path, async_all: bool) -> Result<(), std::io::Error> {
    std::fs::create_dir_all(directory)?;
    Codegen::new()
        .out_dir(directory)
        .input("proto/agent.proto")
        .include("proto")
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(false))
        .customize(Customize {
            async_all,
            ..Default::default()
        })
        .run()?;
    // The generators' own table of contents begins with an inner attribute,
    // which a file that is included can't have.
    std::fs::write(
        directory.join("mod.rs"),
        "pub mod agent;\npub mod agent_ttrpc;\n",
    )
}
