//! Compiles the messages without `protoc`.

use std::error::Error;

const FILES: [&str; 3] =
    ["cutover/v1/release.proto", "cutover/v1/agent.proto", "cutover/v1/operator.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        // compile_fds reads no file, so it cannot print this itself.
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure()
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .btree_map(".")
        .skip_debug([".cutover.v1.Secret", ".cutover.v1.ConfigureEnvironmentRequest"])
        .compile_fds(descriptors)?;
    Ok(())
}
