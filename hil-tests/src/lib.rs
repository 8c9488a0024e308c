//! Weft: tests of the whole system.
