//! crosscode
