//! TensorBoard event files: `tensorboard --logdir runs` shows them.

use std::fs::File;
use std::io::{BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tfrecord::protobuf::event::What;
use tfrecord::protobuf::session_log::SessionStatus;
use tfrecord::protobuf::summary::Image;
use tfrecord::protobuf::{Event, SessionLog};
use tfrecord::{ColorSpace, EventMeta, EventWriter};

/// An open event file. Every event is on disk when its call returns.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    writer: EventWriter<BufWriter<File>>,
}

impl TensorBoard {
    /// Starts a new event file in `folder` for a run that goes on after optimizer step `step` (0 for a new one): TensorBoard then
    /// forgets the events of later steps that an earlier file in the folder holds.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(folder: &Path, step: u64) -> Result<Self> {
        let (path, file) = new_file(folder)?;
        let writer = EventWriter::from_writer(BufWriter::new(file), Default::default())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let mut board = Self { path, writer };
        board.write(0, What::FileVersion("brain.Event:2".into()))?;
        if step > 0 {
            let restart = SessionLog {
                status: SessionStatus::Start.into(),
                ..SessionLog::default()
            };
            board.write(step + 1, What::SessionLog(restart))?;
        }
        Ok(board)
    }

    /// Writes a number; tags such as `loss/train` group by what stands before the slash.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        self.writer
            .write_scalar(tag, step as i64, value as f32)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Writes a picture, given as an RGB PNG of `height` × `width` pixels.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn image(
        &mut self,
        tag: &str,
        step: u64,
        png: &[u8],
        [height, width]: [u32; 2],
    ) -> Result<()> {
        let image = Image {
            height: height as i32,
            width: width as i32,
            colorspace: ColorSpace::Rgb as i32,
            encoded_image_string: png.to_vec(),
        };
        self.writer
            .write_image(tag, step as i64, image)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn write(&mut self, step: u64, what: What) -> Result<()> {
        let event = Event {
            what: Some(what),
            ..EventMeta::with_step(step as i64).build_empty()
        };
        self.writer
            .write_event(event)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// TensorBoard reads the files of a folder in the order of their names, so the start time leads.
fn new_file(folder: &Path) -> Result<(PathBuf, File)> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let mut number = 0;
    loop {
        let path = folder.join(format!("events.out.tfevents.{now:010}.pluvial.{number}"));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot write {}", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tfrecord::EventIter;
    use tfrecord::protobuf::summary::value::Value;

    fn events(path: &Path) -> Vec<Event> {
        EventIter::open(path, Default::default())
            .unwrap()
            .map(|event| event.unwrap())
            .collect()
    }

    #[test]
    fn scalars_and_images_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::create(dir.path(), 0).unwrap();
        board.scalar("loss/train", 7, 0.25).unwrap();
        board.image("map", 8, b"png", [3, 4]).unwrap();
        let events = events(&board.path);
        assert_eq!(events.len(), 3);
        assert_eq!(
            events[0].what,
            Some(What::FileVersion("brain.Event:2".into()))
        );
        assert_eq!(events[1].step, 7);
        let value = |event: &Event| match &event.what {
            Some(What::Summary(summary)) => summary.value[0].clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(value(&events[1]).tag, "loss/train");
        assert_eq!(value(&events[1]).value, Some(Value::SimpleValue(0.25)));
        match value(&events[2]).value {
            Some(Value::Image(image)) => assert_eq!((image.height, image.width), (3, 4)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_resumed_run_writes_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let first = TensorBoard::create(dir.path(), 0).unwrap();
        let second = TensorBoard::create(dir.path(), 20).unwrap();
        assert!(first.path < second.path);
        let events = events(&second.path);
        assert_eq!(events[1].step, 21);
        assert!(
            matches!(&events[1].what, Some(What::SessionLog(log)) if log.status() == SessionStatus::Start)
        );
    }
}
