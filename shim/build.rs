//! Generates the messages of `proto/pod.proto`, without protoc.

fn main() {
    println!("cargo:rerun-if-changed=proto/pod.proto");
    protobuf_codegen::Codegen::new()
        .pure()
        .include("proto")
        .input("proto/pod.proto")
        .cargo_out_dir("pod")
        .run_from_script();
}
