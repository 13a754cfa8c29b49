fn main() {
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", std::env::var("DEP_FASTIPC_LIB_DIR").unwrap());
}
