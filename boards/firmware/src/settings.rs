//! What a person decides of a sensor: at build time by the environment, or later by the provisioning page.
//!
//! Nothing of it stands in the source. What the image was built with goes before what the flash has.

#[cfg(feature = "weft")]
use core::pin::pin;

use heapless::String;
use static_cell::StaticCell;

#[cfg(feature = "weft")]
use crate::apart;

/// The number of the provisioning page's setting that says where readings are pushed to.
pub const PUSH_TO: u8 = 0;

static SETTINGS: StaticCell<Settings> = StaticCell::new();

/// The settings of one sensor. An empty text is one that was not given.
#[derive(Clone, Default)]
pub struct Settings {
    /// `WEFT_JOIN_KEY`: the key to join the mesh with. One that the flash has is not told to the firmware.
    pub join_key: &'static str,
    /// `WEFT_HOSTNAME`: the name that the sensor would like to have.
    pub hostname: String<63>,
    /// `WEFT_WIFI_SSID`: the wireless network, on boards that have one.
    pub ssid: String<32>,
    /// `WEFT_WIFI_PASSWORD`: its password.
    pub password: String<64>,
    /// `WEFT_PUSH_TO`: the peer that gets each reading by UDP, as `name:port`.
    pub push_to: String<80>,
}

impl Settings {
    /// What this image was built with. A text that is too long counts as not given.
    fn built_in() -> Self {
        fn given<const N: usize>(text: Option<&str>) -> String<N> {
            text.and_then(|text| String::try_from(text).ok()).unwrap_or_default()
        }
        Self {
            join_key: option_env!("WEFT_JOIN_KEY").unwrap_or_default(),
            hostname: given(option_env!("WEFT_HOSTNAME")),
            ssid: given(option_env!("WEFT_WIFI_SSID")),
            password: given(option_env!("WEFT_WIFI_PASSWORD")),
            push_to: given(option_env!("WEFT_PUSH_TO")),
        }
    }

    /// What this image was built with, and for the rest what its flash has. To be called once.
    ///
    /// `flash` is the node's region, lent. Where it cannot be read the log says why, and the image's own settings are all.
    #[cfg(feature = "weft")]
    pub async fn load<F: embedded_storage_async::nor_flash::NorFlash>(flash: &mut F) -> &'static Self {
        use weft_embassy::flash::{Setting, Store};

        let settings = SETTINGS.init(Self::built_in());
        let mut place = None;
        if let Err(error) = apart(pin!(Store::open_in(&mut place, flash))).await {
            defmt::error!("settings: {}", defmt::Display2Format(&error));
        }
        if let Some(store) = &mut place {
            apart(pin!(take(store, Setting::Hostname, &mut settings.hostname))).await;
            apart(pin!(take(store, Setting::Ssid, &mut settings.ssid))).await;
            apart(pin!(take(store, Setting::Password, &mut settings.password))).await;
            apart(pin!(take(store, Setting::App(PUSH_TO), &mut settings.push_to))).await;
        }
        settings
    }

    /// What this image was built with. To be called once.
    #[cfg(not(feature = "weft"))]
    pub async fn load<F>(_: &mut F) -> &'static Self {
        SETTINGS.init(Self::built_in())
    }
}

/// Reads a setting into `text`, unless there is something in it.
#[cfg(feature = "weft")]
async fn take<F, const N: usize>(
    store: &mut weft_embassy::flash::Store<F>,
    setting: weft_embassy::flash::Setting,
    text: &mut String<N>,
) where
    F: embedded_storage_async::nor_flash::NorFlash,
{
    if !text.is_empty() {
        return;
    }
    let mut bytes = [0; N];
    match store.setting(setting, &mut bytes).await {
        Ok(Some(bytes)) => *text = core::str::from_utf8(bytes).ok().and_then(|t| t.try_into().ok()).unwrap_or_default(),
        Ok(None) => {}
        Err(error) => defmt::error!("settings: {}: {}", setting, defmt::Display2Format(&error)),
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
