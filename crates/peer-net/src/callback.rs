//! Calls into the app, which may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The app's code panicked; the message has gone to the panic hook.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Calls the app. What its code leaves half done when it panics is the app's own: nothing of ours
/// is touched in between.
pub(crate) fn call<T>(app: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(app)).map_err(|payload| {
        // A payload is a value of the app's, so even its destructor may panic.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        Panicked
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsInDrop;

    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            std::panic::panic_any(7_u8);
        }
    }

    #[test]
    fn nothing_gets_out() {
        assert_eq!(call(|| 1).unwrap(), 1);
        assert!(call(|| panic!("with a text")).is_err());
        assert!(call(|| drop(PanicsInDrop)).is_err());
        assert!(call(|| std::panic::panic_any(PanicsInDrop)).is_err());
    }
}
