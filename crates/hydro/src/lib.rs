//! pluvial-hydro
