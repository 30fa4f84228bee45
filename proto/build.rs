//! Compiles the .proto files with protox, so that no protoc is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    const FILES: [&str; 6] = [
        "schema/antiphon/v1/ledger.proto",
        "schema/antiphon/v1/play.proto",
        "schema/antiphon/v1/state.proto",
        "schema/antiphon/v1/wire.proto",
        "schema/antiphon/v1/council.proto",
        "schema/antiphon/v1/library.proto",
    ];
    println!("cargo:rerun-if-changed=schema");
    let descriptors = protox::compile(FILES, ["schema"])?;
    prost_build::Config::new()
        .enable_type_names()
        // A message among members is up to a megabyte: it is passed on without a copy.
        .bytes([".antiphon.v1.CouncilFrame"])
        .compile_fds(descriptors)?;
    Ok(())
}
