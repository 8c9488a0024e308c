//! The control protocol between a node and its control server: both halves, without I/O.
