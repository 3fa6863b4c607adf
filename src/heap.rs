//! How the C library's allocator gives memory back.

/// Blocks of so many bytes are mapped one by one: pictures, and nothing that comes with each packet.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: libc::c_int = 512 << 10;

/// Has the memory of pictures given back as soon as they are dropped; to be called before other threads are there.
///
/// By itself glibc raises the size from which blocks are mapped with each larger one that is freed, and then keeps the pictures of ended sources and
/// encoders in the arenas of their threads: what is in use stays the same, and what the process holds grows by a picture now and then.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "mallopt has no wrapper")]
pub fn give_back() {
    // SAFETY: it sets a number of the allocator's, which no other thread uses yet. Where it is refused, the default holds.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM) };
}

/// Other allocators know of no such size.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
