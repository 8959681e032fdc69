use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use deltalake::logstore::object_store::local::LocalFileSystem;
use deltalake::logstore::object_store::path::Path;
use deltalake::logstore::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart,
};
use fail::fail_point;
use futures_util::stream::BoxStream;

/// The local disk as an object store. What a call has put is on the disk when it answers,
/// name and content, and no name is ever of less than the whole content: a commit of the
/// lake, which is one such file, is there after a power cut or it is not.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<LocalFileSystem>);

impl Disk {
    async fn synced(&self, location: &Path) -> Result<()> {
        let file = self.0.path_to_filesystem(location)?;
        blocking(move || {
            File::open(&file)?.sync_all()?;
            sync_name(&file)
        })
        .await
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Disk {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let is_new = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                let (operation, implementer) = ("an update".to_owned(), self.to_string());
                return Err(Error::NotImplemented { operation, implementer });
            }
        };
        let to = self.0.path_to_filesystem(location)?;
        match blocking(move || write(&to, &payload, is_new)).await? {
            Written::Done => Ok(PutResult { e_tag: None, version: None }),
            Written::NameTaken(error) => {
                Err(Error::AlreadyExists { path: location.to_string(), source: error.into() })
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.0.put_multipart_opts(location, options).await?;
        Ok(Box::new(Upload { upload, disk: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    // What comes before is not even looked at: a table's log is asked for its end.
    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await?;
        self.synced(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await?;
        self.synced(to).await
    }
}

/// A file that comes in parts. Its name is given before it is synced: nothing tells of it
/// before this is complete.
#[derive(Debug)]
struct Upload {
    upload: Box<dyn MultipartUpload>,
    disk: Disk,
    location: Path,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.upload.complete().await?;
        self.disk.synced(&self.location).await?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

pub(super) enum Written {
    Done,
    /// There is another file of this name.
    NameTaken(std::io::Error),
}

/// Writes a file beside its place, syncs it, and then gives it its name.
pub(super) fn write(to: &FilePath, payload: &PutPayload, is_new: bool) -> std::io::Result<Written> {
    let dir = to.parent().unwrap_or(FilePath::new("/"));
    std::fs::create_dir_all(dir)?;
    let (mut file, beside) = beside(to)?;
    let written = payload.iter().try_for_each(|part| file.write_all(part));
    let synced = written.and_then(|()| file.sync_all());
    fail_point!("lake::drafted");
    let named = synced.and_then(|()| match is_new {
        true => match std::fs::hard_link(&beside, to) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Written::NameTaken(error)),
            linked => linked.map(|()| Written::Done),
        },
        false => std::fs::rename(&beside, to).map(|()| Written::Done),
    });
    if is_new || named.is_err() {
        // A leftover is listed by nobody.
        let _ = std::fs::remove_file(&beside);
    }
    let named = named?;
    sync_name(to)?;
    Ok(named)
}

/// A new file whose name, as an unfinished one's of [`LocalFileSystem`], is not listed.
fn beside(to: &FilePath) -> std::io::Result<(File, PathBuf)> {
    let mut number = 1_u64;
    loop {
        let mut name = to.as_os_str().to_owned();
        name.push(format!("#{number}"));
        match File::create_new(&name) {
            Ok(file) => return Ok((file, name.into())),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Syncs the directory that a file's name is in, and the one that this is in: it may be new.
fn sync_name(file: &FilePath) -> std::io::Result<()> {
    for dir in file.ancestors().skip(1).take(2) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let worked = tokio::task::spawn_blocking(work).await?;
    worked.map_err(|source| Error::Generic { store: "disk", source: source.into() })
}

#[cfg(test)]
mod tests {
    use deltalake::logstore::object_store::ObjectStoreExt as _;
    use futures_util::TryStreamExt as _;

    use super::*;

    async fn names(disk: &Disk, dir: &Path) -> Vec<String> {
        let found: Vec<ObjectMeta> = disk.list(Some(dir)).try_collect().await.unwrap();
        let mut names: Vec<String> =
            found.iter().map(|meta| meta.location.filename().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_name_that_is_taken_stays_whose_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let root = Path::from_filesystem_path(dir.path()).unwrap();
        let commit = root.clone().join("log").join("1.json");
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };

        disk.put_opts(&commit, "first".into(), create()).await.unwrap();
        let refused = disk.put_opts(&commit, "second".into(), create()).await;
        assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
        let read = disk.get(&commit).await.unwrap().bytes().await.unwrap();
        assert_eq!(&read[..], b"first");
        disk.put(&commit, "third".into()).await.unwrap();
        let read = disk.get(&commit).await.unwrap().bytes().await.unwrap();
        assert_eq!(&read[..], b"third");

        let part = root.clone().join("part.parquet");
        let mut upload = disk.put_multipart(&part).await.unwrap();
        upload.put_part("a".into()).await.unwrap();
        assert_eq!(names(&disk, &root).await, ["1.json"]);
        upload.complete().await.unwrap();
        assert_eq!(names(&disk, &root).await, ["1.json", "part.parquet"]);
        let files = std::fs::read_dir(dir.path().join("log")).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside");
    }

    #[tokio::test]
    async fn a_disk_that_refuses_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let below = Path::from_filesystem_path(dir.path().join("file")).unwrap().join("x");
        let refused = Disk::default().put(&below, "text".into()).await;
        assert!(matches!(refused, Err(Error::Generic { .. })), "{refused:?}");
    }
}
