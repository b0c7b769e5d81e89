//! pluvial-model
