//! Wallet files.
#![no_main]

use antiphon::wallet::file::Sealed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // There is one way to write each wallet.
    if let Ok(sealed) = Sealed::parse(bytes) {
        assert_eq!(sealed.encode().as_bytes(), bytes);
    }
});
