//! Refuses to build where nasm is missing: without it the bundled openh264 silently becomes plain C, three times slower.

fn main() {
    println!("cargo:rerun-if-env-changed=PATH");
    let architecture = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if !matches!(architecture.as_str(), "x86" | "x86_64") {
        return;
    }
    let found = std::process::Command::new("nasm").arg("-v").output().is_ok_and(|output| output.status.success());
    if !found {
        println!(
            "cargo::error=nasm was not found, and without it the H.264 encoder would be built three times slower; \
             install it (Debian: apt-get install nasm; ./dev build does so), then `cargo clean -p openh264-sys2` and build again"
        );
    }
}
