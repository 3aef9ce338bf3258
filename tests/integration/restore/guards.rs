//! What is refused, and what is made of it.
