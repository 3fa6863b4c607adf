//! The integration tests: the real binary, from outside.

mod cli;
