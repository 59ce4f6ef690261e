//! From paths to the domains in force, and from those to the next ones.
//!
//! A broken file keeps its own old version and stops no other. Two files that clash cannot both be
//! in force: the one that was there first stays, and the newcomer is the broken one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::OFlags;

use super::context::Context;
use super::decode::{self, CheckedFile, MAX_FILE};
use super::model::Domains;
use super::version::{DISTINCT_PATH, paths_overlap};
use super::world::World;
use crate::diagnostics::{Problem, io_error_hint, io_error_text};

/// The SHA-256 of what a file said when it was read (it may be a secret); `None`: it could not be
/// read.
type FileDigest = Option<[u8; 32]>;

fn file_digest(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// The domains in force, what is wrong with the files, and all that a reload needs to know.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    files: BTreeMap<PathBuf, LoadedFile>,
    domains: Domains,
    problems: Vec<Problem>,
    /// Whether `files` are what the paths name; not where a path is missing.
    is_listed: bool,
}

/// One file.
#[derive(Debug, Clone)]
struct LoadedFile {
    /// What it says now; `None`: it cannot be read.
    text: Option<Arc<str>>,
    /// The other files that it led to (`NAME_FILE`, `schema`), and what they said.
    dependencies: BTreeMap<PathBuf, FileDigest>,
    /// What it says, if that is right, before it is held against the other files.
    current: Result<ValidFile, Vec<Problem>>,
    /// The version in force: not the current one where that is broken.
    in_force: Option<ValidFile>,
}

/// A version of a file that is right in itself.
#[derive(Debug, Clone)]
struct ValidFile {
    checked: CheckedFile,
    text: Arc<str>,
}

/// The domain files that the paths name: files as they are, folders as their `*.yaml` and `*.yml`
/// (not recursive, without dot entries), sorted. Symbolic links are followed, so a volume of
/// Kubernetes works.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Vec<Problem>> {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        match files_of(path) {
            Ok(found) if found.is_empty() => {
                let hint = "subfolders, and names that begin with a dot, are not looked at: \
                            name the file or its very folder";
                let expected = "at least one `*.yaml` or `*.yml`";
                problems.push(Problem::of_file(
                    path,
                    "the folder holds no domain file",
                    expected,
                    hint,
                ));
            }
            Ok(found) => files.extend(found),
            Err(error) => {
                let message = format!("the path cannot be read: {}", io_error_text(&error));
                let expected = "a domain file or a folder of them";
                let hint = io_error_hint(&error);
                problems.push(Problem::of_file(path, message, expected, hint));
            }
        }
    }
    files.sort();
    files.dedup_by_key(|file| std::fs::canonicalize(&*file).unwrap_or_else(|_| file.clone()));
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    let found = std::fs::metadata(path)?;
    if !found.is_dir() {
        return require_regular_file(&found).map(|()| vec![path.into()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let file = entry.path();
        let yaml =
            file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if !hidden && yaml && std::fs::metadata(&file).is_ok_and(|it| it.is_file()) {
            files.push(file);
        }
    }
    Ok(files)
}

/// A file's text, if it is UTF-8 and not larger than a domain file may be: what [`World::read`] is
/// in a process.
///
/// Only of a regular file, symbolic links followed: a pipe would wait for its writer, and to open a
/// device may do something.
pub fn read_text(path: &Path) -> io::Result<String> {
    // Before it is opened, for what it is; and after, in case it was another a moment ago.
    require_regular_file(&std::fs::metadata(path)?)?;
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    require_regular_file(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    // Before it is looked at as text: the bound may fall into the middle of a letter.
    if bytes.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Refuses all but regular files.
fn require_regular_file(found: &std::fs::Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

/// Reads and checks every file that the paths name.
pub fn load(paths: &[PathBuf], world: World<'_>) -> Loaded {
    Loaded::default().reload(paths, world)
}

impl Loaded {
    /// The domains in force, by name.
    pub fn domains(&self) -> &Domains {
        &self.domains
    }

    /// What is wrong with the files as they are now, in the order of the files.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The problems of files that changed since `before`: each broken state of a file is news once,
    /// whatever becomes of other files.
    pub fn new_problems(&self, before: &Self) -> Vec<Problem> {
        let is_news = |problem: &&Problem| {
            let was_broken = before.problems.iter().any(|known| known.file == problem.file);
            let is_unchanged =
                match (self.files.get(&problem.file), before.files.get(&problem.file)) {
                    (Some(now), Some(then)) => now.is_same_reading(then),
                    (None, None) => true,
                    _ => false,
                };
            !(was_broken && is_unchanged)
        };
        self.problems.iter().filter(is_news).cloned().collect()
    }

    /// Whether a reload would give the same again: every file, and every file that it led to, says
    /// what it said.
    pub fn is_current(&self, paths: &[PathBuf], world: World<'_>) -> bool {
        let Ok(files) = files(paths) else { return !self.is_listed };
        self.is_listed
            && self.files.keys().eq(files.iter())
            && self.files.iter().all(|(file, entry)| {
                entry.text == current_text(file) && entry.has_same_dependencies(world)
            })
    }

    /// Reads the files again. A file that did not change keeps its very [`Domain`](super::Domain);
    /// a broken one keeps its old version; one that vanished from its folder is gone. Where a path
    /// itself is missing, all stays as it was.
    #[must_use]
    pub fn reload(&self, paths: &[PathBuf], world: World<'_>) -> Self {
        let files = match files(paths) {
            Ok(files) => files,
            Err(problems) => return Self { problems, is_listed: false, ..self.clone() },
        };
        let entries = files.into_iter().map(|file| {
            let entry = LoadedFile::read(&file, self.files.get(&file), world);
            (file, entry)
        });
        resolve_clashes(entries.collect(), world)
    }
}

fn current_text(file: &Path) -> Option<Arc<str>> {
    read_text(file).ok().map(Arc::from)
}

impl LoadedFile {
    /// Whether neither the file nor what it led to was read anew since `then`.
    fn is_same_reading(&self, then: &Self) -> bool {
        match (&self.text, &then.text) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            (None, None) => true,
            _ => false,
        }
    }

    fn has_same_dependencies(&self, world: World<'_>) -> bool {
        self.dependencies
            .iter()
            .all(|(path, then)| (world.read)(path).ok().as_deref().map(file_digest) == *then)
    }

    fn read(file: &Path, old: Option<&Self>, world: World<'_>) -> Self {
        let text = match read_text(file) {
            Ok(text) => Arc::from(text),
            Err(error) => return Self::unreadable(file, old, &error),
        };
        if let Some(old) =
            old.filter(|old| old.text.as_ref() == Some(&text) && old.has_same_dependencies(world))
        {
            return old.clone();
        }
        let led_to = RefCell::new(BTreeMap::new());
        let read = |path: &Path| {
            let text = (world.read)(path);
            led_to.borrow_mut().insert(path.to_owned(), text.as_deref().ok().map(file_digest));
            text
        };
        let current = decode::check(file, &text, World { read: &read, ..world });
        let current = current.map(|checked| ValidFile { checked, text: text.clone() });
        let in_force = old.and_then(|old| old.in_force.clone());
        Self { text: Some(text), dependencies: led_to.into_inner(), current, in_force }
    }

    fn unreadable(file: &Path, old: Option<&Self>, error: &io::Error) -> Self {
        let message = format!("the file cannot be read: {}", io_error_text(error));
        let problem =
            Problem::of_file(file, message, "UTF-8 text of at most 1 MiB", io_error_hint(error));
        let in_force = old.and_then(|old| old.in_force.clone());
        Self { text: None, dependencies: BTreeMap::new(), current: Err(vec![problem]), in_force }
    }

    /// Whether what it says now is already in force.
    fn is_in_force(&self) -> bool {
        match (&self.current, &self.in_force) {
            (Ok(current), Some(in_force)) => {
                Arc::ptr_eq(&current.checked.domain, &in_force.checked.domain)
            }
            _ => false,
        }
    }
}

/// Decides which version of each file is in force.
///
/// Newcomers are held against all that stays; one that clashes falls back to its own old version,
/// which then stays too, so the others are held against it anew. Each turn lets one more fall back,
/// so this ends.
fn resolve_clashes(mut files: BTreeMap<PathBuf, LoadedFile>, world: World<'_>) -> Loaded {
    let mut clashes: BTreeMap<PathBuf, Vec<Problem>> = BTreeMap::new();
    let in_force = loop {
        let stays = |(file, entry): &(&PathBuf, &LoadedFile)| {
            entry.current.is_err() || entry.is_in_force() || clashes.contains_key(*file)
        };
        let mut accepted: Vec<(&PathBuf, &ValidFile)> = files
            .iter()
            .filter(stays)
            .filter_map(|(file, entry)| Some((file, entry.in_force.as_ref()?)))
            .collect();
        let mut clash = None;
        for (file, entry) in files.iter().filter(|it| !stays(it)) {
            let Ok(current) = &entry.current else { continue };
            let problems = find_clashes(file, current, &accepted, world);
            if !problems.is_empty() {
                clash = Some((file.clone(), problems));
                break;
            }
            accepted.push((file, current));
        }
        match clash {
            Some((file, problems)) => clashes.insert(file, problems),
            None => {
                break accepted
                    .into_iter()
                    .map(|(file, sound)| (file.clone(), sound.clone()))
                    .collect();
            }
        };
    };
    assemble(&mut files, in_force, clashes)
}

fn assemble(
    files: &mut BTreeMap<PathBuf, LoadedFile>,
    mut in_force: BTreeMap<PathBuf, ValidFile>,
    mut clashes: BTreeMap<PathBuf, Vec<Problem>>,
) -> Loaded {
    let mut domains = Domains::new();
    let mut problems = Vec::new();
    for (file, entry) in &mut *files {
        entry.in_force = in_force.remove(file);
        if let Some(sound) = &entry.in_force {
            domains.insert(sound.checked.domain.name.clone(), sound.checked.domain.clone());
        }
        problems.extend(entry.current.as_ref().err().into_iter().flatten().cloned());
        problems.extend(clashes.remove(file).into_iter().flatten());
    }
    Loaded { files: std::mem::take(files), domains, problems, is_listed: true }
}

/// What of `new` clashes with the files that stay.
fn find_clashes(
    file: &Path,
    new: &ValidFile,
    others: &[(&PathBuf, &ValidFile)],
    world: World<'_>,
) -> Vec<Problem> {
    let mut context = Context::new(file, &new.text, world);
    let domain = &new.checked.domain;
    for (other_file, other) in others {
        let other = &other.checked.domain;
        let shown = other_file.display();
        if other.name == domain.name {
            let message = format!("the domain `{}` is already in `{shown}`", domain.name);
            let hint = "one file holds a domain, with all its versions";
            context.problem(new.checked.name.clone(), message, "another name", hint);
        }
        for (version, place) in domain.versions.iter().zip(&new.checked.paths) {
            if let Some(theirs) =
                other.versions.iter().find(|theirs| paths_overlap(&theirs.path, &version.path))
            {
                let message =
                    format!("this path overlaps with `{}` in `{shown}`", theirs.path.text);
                context.problem(
                    place.clone(),
                    message,
                    DISTINCT_PATH,
                    "`{key}` stands for any one segment",
                );
            }
        }
    }
    context.finish()
}
