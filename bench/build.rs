//! Compiles the read service. Its messages are those of cable-client.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../proto");
    let set = protox::compile(["cable/v1/content.proto"], ["../proto"])?;
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .use_arc_self(true)
        .extern_path(".cable.v1", "::cable_client::v1")
        .compile_fds(set)?;
    Ok(())
}
