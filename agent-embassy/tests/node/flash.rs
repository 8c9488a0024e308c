//! NOR flash in memory that outlives the node.

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use embedded_storage_async::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

const PAGE: usize = 4_096;

/// A region of sixteen pages. Copies are the same flash.
#[derive(Clone)]
pub(crate) struct Flash(Rc<RefCell<Vec<u8>>>);

impl Flash {
    /// What a host has written the provisioning page of.
    pub(crate) fn provisioned(fields: &[weft_embassy::provision::Field<'_>]) -> Self {
        let mut bytes = vec![0xff; 16 * PAGE];
        weft_embassy::provision::encode(fields, &mut bytes[..weft_embassy::provision::MAX_PAGE]).unwrap();
        Self(Rc::new(RefCell::new(bytes)))
    }

    /// Whether these bytes stand anywhere in it.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        self.0.borrow().windows(bytes.len()).any(|window| window == bytes)
    }
}

impl ErrorType for Flash {
    type Error = Infallible;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0.borrow()[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.borrow().len()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        // As long as it takes on a chip.
        embassy_time::Timer::after_millis(20).await;
        self.0.borrow_mut()[from as usize..to as usize].fill(0xff);
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        embassy_time::Timer::after_millis(1).await;
        let mut flash = self.0.borrow_mut();
        for (place, byte) in flash[offset as usize..].iter_mut().zip(bytes) {
            assert_eq!(*place & byte, *byte, "a bit was written twice");
            *place = *byte;
        }
        Ok(())
    }
}
