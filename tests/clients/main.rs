//! Real clients, each in a journey of its own.
