//! The radio: it joins the Wi-Fi network of the settings, again and again.

use defmt::{error, info, unwrap, warn};
use embassy_executor::Spawner;
use embassy_time::{Duration, Timer};
use esp_hal::peripherals::WIFI;
use esp_radio::wifi::{
    AuthenticationMethodConfig, Config, ControllerConfig, Interface, WifiController, WifiError, sta::StationConfig,
};
use weft_firmware::Settings;

/// How often a network that cannot be joined is tried.
const RETRY: Duration = Duration::from_secs(5);

/// Starts the radio and the task that keeps it joined.
pub(crate) fn start(spawner: Spawner, radio: WIFI<'static>, settings: &'static Settings) -> Interface {
    let interface = Interface::station();
    let controller = unwrap!(WifiController::new(radio, ControllerConfig::default()), "the radio does not start");
    spawner.spawn(unwrap!(keep_joined(controller, settings)));
    interface
}

/// Joins the network whenever the radio has none.
#[embassy_executor::task]
async fn keep_joined(mut controller: WifiController<'static>, settings: &'static Settings) -> ! {
    while let Err(reason) = configure(&mut controller, settings) {
        error!(
            "no usable Wi-Fi network is set: give it in the provisioning page, or build with WEFT_WIFI_SSID ({})",
            reason
        );
        Timer::after(RETRY).await;
    }
    let ssid: &str = &settings.ssid;
    loop {
        match controller.connect_async().await {
            Ok(_) => {
                info!("joined the Wi-Fi network {=str}", ssid);
                let _ = controller.wait_for_disconnect_async().await;
                warn!("the Wi-Fi network {=str} is gone", ssid);
            }
            Err(reason) => {
                warn!("cannot join the Wi-Fi network {=str}: {}; it is tried again", ssid, reason);
                Timer::after(RETRY).await;
            }
        }
    }
}

fn configure(controller: &mut WifiController<'static>, settings: &Settings) -> Result<(), WifiError> {
    let Settings { ssid, password, .. } = settings;
    if ssid.is_empty() {
        return Err(WifiError::InvalidSsid);
    }
    let authentication = if password.is_empty() {
        AuthenticationMethodConfig::Open
    } else {
        AuthenticationMethodConfig::Wpa2Personal(password.as_str().try_into()?)
    };
    let station = StationConfig::default().with_ssid(ssid.as_str().try_into()?).with_authentication(authentication);
    controller.set_config(&Config::Station(station))
}
