#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peer_tests::check::server_bridge(input));
