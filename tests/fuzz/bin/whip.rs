#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| laterna_fuzz::whip::run(data));
