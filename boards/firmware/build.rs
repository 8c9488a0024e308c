//! Says what a join key in an image means, before anybody ships one.

fn main() {
    for name in ["WEFT_JOIN_KEY", "WEFT_HOSTNAME", "WEFT_WIFI_SSID", "WEFT_WIFI_PASSWORD", "WEFT_PUSH_TO"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if std::env::var("WEFT_JOIN_KEY").is_ok_and(|key| !key.is_empty()) {
        println!(
            "cargo:warning=WEFT_JOIN_KEY is put into the image: whoever reads the image can join with it. \
             It has to be a one-use key, or one that is tagged and expires soon."
        );
    }
}
