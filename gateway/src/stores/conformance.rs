//! (under construction in its branch)
