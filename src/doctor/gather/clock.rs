//! Whether something keeps the system's clock right.
#![expect(unsafe_code, reason = "adjtimex has no wrapper in rustix")]

/// What the kernel says of its clock (adjtimex(2)).
#[derive(Debug, Clone, Copy)]
pub(in crate::doctor) struct KernelClock(libc::c_int);

impl KernelClock {
    /// Whether something keeps it right; `None` where the kernel does not say.
    pub(in crate::doctor) fn is_synchronised(self) -> Option<bool> {
        (self.0 >= 0).then_some(self.0 != libc::TIME_ERROR)
    }
}

/// Asks the kernel.
pub(in crate::doctor) fn clock() -> KernelClock {
    // SAFETY: all fields of this plain C structure may be zero, which asks and changes nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a place for the answer.
    KernelClock(unsafe { libc::adjtimex(&raw mut state) })
}
