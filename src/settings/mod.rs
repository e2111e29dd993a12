//! Settings in layers: the embedded defaults, a file, the environment. It serves every room and uses none.
