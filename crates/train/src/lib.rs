//! pluvial-train
