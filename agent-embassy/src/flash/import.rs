//! Takes the provisioning page: what is in it is kept first, then the page is erased.
//!
//! Power loss in between does no harm: the page is taken once more, which changes nothing but the seed, and that for
//! the better.

use embedded_storage_async::nor_flash::{NorFlash, ReadNorFlash as _};
use weft_core::crypto::hash;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    item::{Key, Setting},
    seed::Seed,
    store::{FlashError, Store, of_region},
};
use crate::provision::{self, Field, MAX_FIELD, MAX_PAGE, PageError};

/// What becomes of a field. Its content is copied, since the buffer that it was read to serves to keep it.
enum Target {
    Seed,
    JoinKey,
    Setting(Setting),
}

struct Copied {
    target: Target,
    len: usize,
    content: Zeroizing<[u8; MAX_FIELD]>,
}

/// True where there was a page and all of it was taken.
pub(super) async fn take_page<F: NorFlash>(store: &mut Store<F>) -> Result<Result<bool, PageError>, FlashError> {
    for number in 0.. {
        let copied = match field(store, number).await? {
            Ok(Some(copied)) => copied,
            Ok(None) if number == 0 => return Ok(Ok(false)),
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        };
        let content = copied.content.get(..copied.len).unwrap_or_default();
        match copied.target {
            Target::Seed => mix_seed(store, content).await?,
            Target::JoinKey => {
                store.owe_scrub().await?;
                store.put_bytes(Key::JOIN_KEY, content).await?;
            }
            Target::Setting(setting) => store.keep_setting(setting, content).await?,
        }
    }
    let page = F::ERASE_SIZE as u32;
    store.map.flash().erase(0, page).await.map_err(of_region)?;
    Ok(Ok(true))
}

/// The field of the page with this number.
async fn field<F: NorFlash>(
    store: &mut Store<F>,
    number: usize,
) -> Result<Result<Option<Copied>, PageError>, FlashError> {
    let Store { map, buffer, .. } = store;
    let page = buffer.0.get_mut(..MAX_PAGE.min(F::ERASE_SIZE)).unwrap_or_default();
    map.flash().read(0, page).await.map_err(of_region)?;
    let copied = provision::decode(page).map(|fields| fields?.nth(number).map(copy));
    buffer.0.zeroize();
    Ok(copied)
}

fn copy(field: Field<'_>) -> Copied {
    let target = match field {
        Field::JoinKey(_) => Target::JoinKey,
        Field::Seed(_) => Target::Seed,
        Field::Hostname(_) => Target::Setting(Setting::Hostname),
        Field::Ssid(_) => Target::Setting(Setting::Ssid),
        Field::Password(_) => Target::Setting(Setting::Password),
        Field::App(number, _) => Target::Setting(Setting::App(number)),
    };
    let mut content = Zeroizing::new([0; MAX_FIELD]);
    content.iter_mut().zip(field.content()).for_each(|(place, byte)| *place = *byte);
    Copied { target, len: field.content().len(), content }
}

/// A seed from outside is mixed into the one that is there, so that it never makes things worse.
async fn mix_seed<F: NorFlash>(store: &mut Store<F>, given: &[u8]) -> Result<(), FlashError> {
    let former = store.seed().await?.unwrap_or(Seed { boots: 0, bytes: [0; 32] });
    let bytes = hash::hash(&[b"weft provisioned seed", &former.bytes, given]);
    store.keep_seed(&Seed { boots: former.boots.saturating_add(1), bytes }).await
}
