//! What a person decides of a sensor: at build time by the environment.
//!
//! Nothing of it stands in the source. What the image does not have comes from the provisioning page in flash.

/// The settings of one sensor. An empty text is one that was not given.
#[derive(Clone, Copy, Default)]
pub struct Settings {
    /// `WEFT_JOIN_KEY`: the key to join the mesh with.
    pub join_key: &'static str,
    /// `WEFT_HOSTNAME`: the name that the sensor would like to have.
    pub hostname: &'static str,
    /// `WEFT_WIFI_SSID`: the wireless network, on boards that have one.
    pub ssid: &'static str,
    /// `WEFT_WIFI_PASSWORD`: its password.
    pub password: &'static str,
    /// `WEFT_PUSH_TO`: the peer that gets each reading by UDP, as `name:port`.
    pub push_to: &'static str,
}

impl Settings {
    /// What this image was built with.
    pub const fn built_in() -> Self {
        const fn given(text: Option<&'static str>) -> &'static str {
            match text {
                Some(text) => text,
                None => "",
            }
        }
        Self {
            join_key: given(option_env!("WEFT_JOIN_KEY")),
            hostname: given(option_env!("WEFT_HOSTNAME")),
            ssid: given(option_env!("WEFT_WIFI_SSID")),
            password: given(option_env!("WEFT_WIFI_PASSWORD")),
            push_to: given(option_env!("WEFT_PUSH_TO")),
        }
    }
}

impl core::fmt::Debug for Settings {
    /// The join key and the password are secrets.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Settings")
            .field("hostname", &self.hostname)
            .field("ssid", &self.ssid)
            .field("push_to", &self.push_to)
            .finish_non_exhaustive()
    }
}
