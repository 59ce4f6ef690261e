//! `bfb inject`: manifests in, the same with sidecars out, or nothing and every reason why not.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{check, exit, out};
use crate::diagnostics::{Problem, io_error_hint, io_error_text, render_warnings};
use crate::inject::manifest::{self, FILE_MAX_BYTES, PodOutcome, RewriteMode, RewrittenManifest};
use crate::inject::{Defaults, SkipReason};

#[derive(Debug, Args)]
pub(super) struct InjectCommand {
    /// A manifest, a folder of them (`*.yaml`, `*.yml`, `*.json`), or `-` for standard input; may
    /// be given several times
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Give every pod a sidecar, with this domain where its `bfb.dev/inject` names none; may be
    /// given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "uninject")]
    domain: Vec<String>,
    /// The sidecar's image, where a pod's `bfb.dev/image` names none
    #[arg(long, env = "BFB_IMAGE", value_name = "IMAGE")]
    image: Option<String>,
    #[arg(long, value_delimiter = '\n', value_parser = pair)]
    set: Vec<(String, String)>,
    /// Take the sidecars away again
    #[arg(long)]
    uninject: bool,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or("expected `NAME=VALUE`, such as `memory=128MiB`")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl InjectCommand {
    pub(super) fn run(self) -> ExitCode {
        let image = self.image.map(|image| ("image".to_owned(), image));
        let set: Vec<_> = image.into_iter().chain(self.set).collect();
        let defaults = match Defaults::new(&self.domain, &set) {
            Ok(defaults) => defaults,
            Err(wrong) => {
                for wrong in wrong {
                    out::error(wrong);
                }
                return exit::wrong_input();
            }
        };
        let work =
            if self.uninject { RewriteMode::Uninject } else { RewriteMode::Inject(&defaults) };
        let mut rewritten = Vec::new();
        let mut problems = Vec::new();
        match manifest_files(&self.paths) {
            Ok(files) => {
                for file in files {
                    match read(&file)
                        .and_then(|text| manifest::rewrite(display_path(&file), &text, work))
                    {
                        Ok(done) => rewritten.push(done),
                        Err(found) => problems.extend(found),
                    }
                }
            }
            Err(found) => problems = found,
        }
        if !problems.is_empty() {
            check::report_problems(&problems);
            return exit::wrong_input();
        }
        print_manifests(&rewritten)
    }
}

/// The manifests on standard output, what became of their pods on standard error.
fn print_manifests(rewritten: &[RewrittenManifest]) -> ExitCode {
    let passed: Vec<_> =
        rewritten.iter().flat_map(|done| done.unknown_kinds.iter().cloned()).collect();
    if !passed.is_empty() {
        out::print_problems(|color| render_warnings(&passed, color));
    }
    out::note(summary(rewritten));
    out::print_data(join(rewritten))
}

/// One stream of documents: as they came, with a line between two files where the second does not
/// begin with one.
fn join(rewritten: &[RewrittenManifest]) -> String {
    let mut out = String::new();
    for (nth, RewrittenManifest { text, .. }) in rewritten.iter().enumerate() {
        if nth > 0 {
            let text = text.trim_start_matches('\u{feff}');
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
            if !text.starts_with("---") {
                out.push_str("---\n");
            }
            out.push_str(text);
        } else {
            out.push_str(text);
        }
    }
    out
}

fn summary(rewritten: &[RewrittenManifest]) -> String {
    let pods = || rewritten.iter().flat_map(|done| &done.pods);
    let count = |is_counted: &dyn Fn(&PodOutcome) -> bool| {
        pods().filter(|pod| is_counted(&pod.outcome)).count()
    };
    let parts = [
        (count(&|fate| matches!(fate, PodOutcome::Injected(_))), "injected"),
        (count(&|fate| *fate == PodOutcome::Uninjected), "uninjected"),
        (count(&|fate| *fate == PodOutcome::HadNone), "without a sidecar"),
        (
            count(&|fate| *fate == PodOutcome::Skipped(SkipReason::AlreadyInjected)),
            "injected before",
        ),
        (count(&|fate| *fate == PodOutcome::Skipped(SkipReason::OptedOut)), "opted out"),
        (count(&|fate| *fate == PodOutcome::Skipped(SkipReason::NotRequested)), "not asked"),
    ];
    let parts: Vec<_> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if parts.is_empty() { "no pods".to_owned() } else { format!("pods: {}", parts.join(", ")) }
}

/// The files that the paths name, folders as their manifests, sorted.
fn manifest_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Vec<Problem>> {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        match manifest_files_of(path) {
            Ok(found) if found.is_empty() => {
                let hint = "subfolders, and names that begin with a dot, are not looked at";
                let expected = "at least one `*.yaml`, `*.yml` or `*.json`";
                problems.push(Problem::of_file(
                    path,
                    "the folder holds no manifest",
                    expected,
                    hint,
                ));
            }
            Ok(found) => files.extend(found),
            Err(error) => {
                let message = format!("the path cannot be read: {}", io_error_text(&error));
                let expected = "a manifest, a folder of them, or `-`";
                problems.push(Problem::of_file(path, message, expected, io_error_hint(&error)));
            }
        }
    }
    if files.iter().filter(|file| *file == Path::new("-")).count() > 1 {
        let message = "standard input can be read once only";
        let expected = "`-` once";
        problems.push(Problem::of_file(
            display_path(Path::new("-")),
            message,
            expected,
            "remove one of the two",
        ));
    }
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

fn manifest_files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path == Path::new("-") || !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let manifest =
            file.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json");
        if manifest && !hidden && fs::metadata(&file).is_ok_and(|it| it.is_file()) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// A file as messages name it.
fn display_path(file: &Path) -> &Path {
    if file == Path::new("-") { Path::new("<stdin>") } else { file }
}

fn read(file: &Path) -> Result<String, Vec<Problem>> {
    let read = || -> io::Result<String> {
        let mut bytes = Vec::new();
        let limit = FILE_MAX_BYTES as u64 + 1;
        if file == Path::new("-") {
            io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
        } else {
            fs::File::open(file)?.take(limit).read_to_end(&mut bytes)?;
        }
        // Before it is looked at as text: the bound may fall into the middle of a letter.
        if bytes.len() > FILE_MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it is larger than {} MiB", FILE_MAX_BYTES >> 20),
            ));
        }
        String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
    };
    read().map_err(|error| {
        let message = format!("the file cannot be read: {}", io_error_text(&error));
        let expected = format!("UTF-8 text of at most {} MiB", FILE_MAX_BYTES >> 20);
        vec![Problem::of_file(display_path(file), message, expected, io_error_hint(&error))]
    })
}
