//! Compiles the C shim against the installed libdpdk and generates the bindings.
//!
//! `pkg-config` is called directly: the flags that decide the layout of DPDK's structures
//! (`-include rte_config.h`, `-march=…`) are ones that the `pkg-config` crate leaves out.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, exit};

/// Required packages, by their Debian and Ubuntu names.
const PACKAGES: &str = "libdpdk-dev libclang1-14 libclang-common-14-dev pkg-config gcc";

const SHIM: &[&str] = &["shim/burst.c", "shim/eal.c", "shim/pool.c", "shim/port.c"];
/// Compiled with the feature `fault-injection` only.
const INJECT: &[&str] = &["shim/hold.c", "shim/inject.c"];
/// Macro that stands for the feature in C.
const INJECT_DEFINE: &str = "LG_FAULT_INJECTION";
const HEADERS: &[&str] = &[
    "shim/bindings.h",
    "shim/internal.h",
    "shim/release.h",
    "shim/shim.h",
];

/// Libraries that shim and bindings call. Drivers are plug-ins that the EAL finds.
const LIBRARIES: &[&str] = &[
    "rte_bus_vdev",
    "rte_eal",
    "rte_ethdev",
    "rte_mbuf",
    "rte_mempool",
    "rte_net_ring",
    "rte_ring",
];

/// Libraries that a later release has split off from those. They are linked where there are any.
/// `shim/release.h` has the other differences between releases.
const SPLIT_LIBRARIES: &[&str] = &[
    // Since 23.11, from rte_eal.
    "rte_log",
];

/// Functions that are bound directly, without the shim.
const FUNCTIONS: &[&str] = &[
    "rte_eal_init",
    "rte_eth_dev_close",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_from_rings",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_vdev_init",
    "rte_vdev_uninit",
    "rte_version",
];

/// Structures that Rust only has pointers to, because their fields move between releases.
const HANDLES: &[&str] = &["rte_mbuf", "rte_mempool", "rte_ring"];

fn main() {
    for file in SHIM.iter().chain(INJECT).chain(HEADERS) {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");

    let mut cflags = pkg_config("--cflags");
    let injects = env::var_os("CARGO_FEATURE_FAULT_INJECTION").is_some();
    if injects {
        cflags.push(format!("-D{INJECT_DEFINE}"));
    }
    let libs = pkg_config("--libs");
    compile_shim(&cflags, injects);
    for flag in &libs {
        if let Some(dir) = flag.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={dir}");
        }
    }
    for library in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    for library in SPLIT_LIBRARIES {
        if libs
            .iter()
            .any(|flag| flag.strip_prefix("-l") == Some(*library))
        {
            println!("cargo::rustc-link-lib=dylib={library}");
        }
    }
    generate_bindings(&cflags);
}

fn pkg_config(what: &str) -> Vec<String> {
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = match Command::new(&tool).args([what, "libdpdk"]).output() {
        Ok(output) => output,
        Err(error) => fail(&format!("can't run {tool}: {error}")),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        fail(&format!("{tool} doesn't find libdpdk: {}", said.trim()));
    }
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn compile_shim(cflags: &[String], injects: bool) {
    let mut build = cc::Build::new();
    build.files(SHIM).std("gnu11").opt_level(3).warnings(true);
    if injects {
        build.files(INJECT);
    }
    for flag in cflags {
        build.flag(flag);
    }
    // rte_dev_dma_map is marked experimental in 22.11 and stable later.
    build.define("ALLOW_EXPERIMENTAL_API", None);
    // DPDK's own headers have parameters that they don't use.
    build.flag("-Wno-unused-parameter");
    if let Err(error) = build.try_compile("lockgate_shim") {
        fail(&format!("can't compile the C shim: {error}"));
    }
}

fn generate_bindings(cflags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header("shim/bindings.h")
        .clang_args(cflags)
        .allowlist_function("lg_.*")
        .allowlist_type("lg_.*")
        .allowlist_var("LG_.*")
        .allowlist_type("rte_mbuf_ext_shared_info")
        .allowlist_type("rte_mbuf_extbuf_free_callback_t")
        .allowlist_recursively(false)
        .generate_comments(false)
        .generate_cstr(true)
        .layout_tests(true);
    for name in HANDLES {
        builder = builder
            .raw_line("#[repr(C)]")
            .raw_line("#[derive(Debug)]")
            .raw_line(format!("pub struct {name} {{ _opaque: [u8; 0] }}"));
    }
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    // Without libclang bindgen panics, in words that name no package.
    let generated = catch_unwind(AssertUnwindSafe(|| builder.generate()));
    let bindings = match generated {
        Ok(Ok(bindings)) => bindings,
        Ok(Err(error)) => fail(&format!("bindgen can't read DPDK's headers: {error}")),
        Err(_) => fail("bindgen doesn't find libclang"),
    };
    let Some(out) = env::var_os("OUT_DIR") else {
        fail("OUT_DIR is not set");
    };
    if let Err(error) = bindings.write_to_file(PathBuf::from(out).join("bindings.rs")) {
        fail(&format!("can't write the bindings: {error}"));
    }
}

fn fail(what: &str) -> ! {
    println!(
        "cargo::error=dpdk-sys: {what}. It builds against DPDK 22.11 or newer; on Debian or \
         Ubuntu: apt-get install {PACKAGES}"
    );
    exit(1);
}
