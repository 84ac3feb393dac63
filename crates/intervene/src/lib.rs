//! intervene
