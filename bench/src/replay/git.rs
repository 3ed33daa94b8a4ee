//! Reads the history, file contents and trees of a git repository. The history and all contents are streamed, each from
//! one git process.

use std::{
    io::{BufRead as _, BufReader, Read as _, Split, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::post::DIRECTORIES;
use crate::Outcome;

/// The path of a bare repository or of a clone.
#[derive(Debug)]
pub(super) struct Repository(pub(super) PathBuf);

/// A commit that changed posts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) commit: String,
    pub(super) changes: Vec<FileChange>,
}

/// The change of one file in a commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileChange {
    /// The old path of a removed or renamed file; none for other changes.
    pub(super) old_path: Option<String>,
    /// The file after the change; none if it was removed.
    pub(super) file: Option<File>,
}

/// A file in a tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: String,
    /// The id of the blob that holds the content.
    pub(super) blob: String,
}

impl Repository {
    /// Returns the commits that changed posts, oldest first. Follows only the first parent of a merge.
    ///
    /// # Errors
    /// Fails if git does not start.
    pub(super) fn history(&self) -> Outcome<History> {
        let mut command = self.git();
        command
            .args([
                "log",
                "--first-parent",
                "--reverse",
                "--raw",
                "--no-abbrev",
                "-M",
                "-z",
                "--format=commit %H",
            ])
            .arg("--")
            .args(DIRECTORIES);
        let mut git = Git::start(command.stdout(Stdio::piped()))?;
        let output = git.0.stdout.take().ok_or("git has no standard output")?;
        Ok(History { git, tokens: BufReader::new(output).split(0), next_commit: None })
    }

    /// Returns a reader of blobs by id.
    ///
    /// # Errors
    /// Fails if git does not start.
    pub(super) fn blobs(&self) -> Outcome<Blobs> {
        let mut command = self.git();
        command.args(["cat-file", "--batch"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut git = Git::start(&mut command)?;
        let input = git.0.stdin.take().ok_or("git has no standard input")?;
        let output = git.0.stdout.take().ok_or("git has no standard output")?;
        Ok(Blobs { input, output: BufReader::new(output), _git: git })
    }

    /// Returns the files in the directories of posts at a commit.
    ///
    /// # Errors
    /// Fails if the commit does not exist.
    pub(super) fn tree(&self, commit: &str) -> Outcome<Vec<File>> {
        let output = self.git().args(["ls-tree", "-r", "-z", commit, "--"]).args(DIRECTORIES).output()?;
        if !output.status.success() {
            return Err(format!("git ls-tree: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let entries = output.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        entries.map(|entry| tree_entry(&String::from_utf8_lossy(entry))).collect()
    }

    fn git(&self) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.0).stdin(Stdio::null());
        command
    }
}

/// A git process, which is killed on drop.
#[derive(Debug)]
struct Git(Child);

impl Git {
    fn start(command: &mut Command) -> Outcome<Git> {
        Ok(Git(command.spawn().map_err(|error| format!("git: {error}"))?))
    }
}

impl Drop for Git {
    fn drop(&mut self) {
        // Errors are ignored, because `drop` cannot return them.
        let _result = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// An iterator over the steps of a history.
#[derive(Debug)]
pub(super) struct History {
    git: Git,
    tokens: Split<BufReader<ChildStdout>>,
    /// The commit whose changes come next in the output.
    next_commit: Option<String>,
}

impl History {
    fn token(&mut self) -> Outcome<Option<String>> {
        let token = self.tokens.next().transpose()?;
        Ok(token.map(|token| String::from_utf8_lossy(&token).trim_start_matches('\n').to_owned()))
    }

    fn expected(&mut self) -> Outcome<String> {
        self.token()?.ok_or_else(|| "unexpected end of git log".into())
    }

    fn step(&mut self) -> Outcome<Option<Step>> {
        let first = match self.next_commit.take() {
            Some(commit) => Some(commit),
            None => self.token()?.map(|token| commit(&token).ok_or(token)).transpose()?,
        };
        let Some(commit_id) = first else { return self.end() };
        let mut changes = Vec::new();
        while let Some(token) = self.token()? {
            self.next_commit = commit(&token);
            if self.next_commit.is_some() {
                break;
            }
            changes.push(self.change(&token)?);
        }
        Ok(Some(Step { commit: commit_id, changes }))
    }

    /// Parses a header, `:MODE MODE BLOB BLOB STATUS`, and reads the path after it; for a rename, also the new path.
    fn change(&mut self, header: &str) -> Outcome<FileChange> {
        let mut words = header.split(' ').skip(3);
        let (Some(blob), Some(status)) = (words.next(), words.next()) else {
            return Err(format!("unexpected output of git log: `{header}`").into());
        };
        let path = self.expected()?;
        let blob = blob.to_owned();
        Ok(match status.as_bytes().first() {
            Some(b'D') => FileChange { old_path: Some(path), file: None },
            Some(b'R') => {
                FileChange { old_path: Some(path), file: Some(File { path: self.expected()?, blob }) }
            }
            _ => FileChange { old_path: None, file: Some(File { path, blob }) },
        })
    }

    fn end(&mut self) -> Outcome<Option<Step>> {
        let status = self.git.0.wait()?;
        if status.success() { Ok(None) } else { Err(format!("git log failed: {status}").into()) }
    }
}

impl Iterator for History {
    type Item = Outcome<Step>;

    fn next(&mut self) -> Option<Outcome<Step>> {
        self.step().transpose()
    }
}

fn commit(token: &str) -> Option<String> {
    token.strip_prefix("commit ").map(str::to_owned)
}

/// Parses `MODE blob BLOB`, a tab, and the path.
fn tree_entry(entry: &str) -> Outcome<File> {
    let parts = entry.split_once('\t').and_then(|(header, path)| Some((header.split(' ').nth(2)?, path)));
    let (blob, path) = parts.ok_or_else(|| format!("unexpected output of git ls-tree: `{entry}`"))?;
    Ok(File { path: path.to_owned(), blob: blob.to_owned() })
}

/// A reader of blobs.
#[derive(Debug)]
pub(super) struct Blobs {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _git: Git,
}

impl Blobs {
    /// Returns the content of a blob; none if this clone lacks it.
    ///
    /// # Errors
    /// Fails if git ends or its output cannot be parsed.
    pub(super) fn read(&mut self, blob: &str) -> Outcome<Option<Vec<u8>>> {
        writeln!(self.input, "{blob}")?;
        self.input.flush()?;
        let mut header = String::new();
        self.output.read_line(&mut header)?;
        if header.trim_end().ends_with(" missing") {
            return Ok(None);
        }
        let size = header.split_whitespace().nth(2).and_then(|size| size.parse::<usize>().ok());
        let size =
            size.ok_or_else(|| format!("unexpected output of git cat-file: `{}`", header.trim_end()))?;
        let mut content = vec![0; size + 1];
        self.output.read_exact(&mut content)?;
        // Git writes a line feed after the content.
        content.pop();
        Ok(Some(content))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    /// A temporary repository that a test writes to.
    pub(in super::super) struct Scratch(tempfile::TempDir);

    impl Scratch {
        pub(in super::super) fn new() -> Scratch {
            let scratch = Scratch(tempfile::tempdir().unwrap());
            scratch.git(&["init", "--quiet"]);
            scratch
        }

        pub(in super::super) fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        pub(in super::super) fn rename(&self, from: &str, to: &str) {
            fs::create_dir_all(self.0.path().join(to).parent().unwrap()).unwrap();
            fs::rename(self.0.path().join(from), self.0.path().join(to)).unwrap();
        }

        pub(in super::super) fn remove(&self, path: &str) {
            fs::remove_file(self.0.path().join(path)).unwrap();
        }

        pub(in super::super) fn commit(&self) {
            self.git(&["add", "--all"]);
            self.git(&["commit", "--quiet", "--message", "edit"]);
        }

        pub(in super::super) fn repository(&self) -> Repository {
            Repository(self.0.path().to_owned())
        }

        fn git(&self, arguments: &[&str]) {
            let mut command = self.repository().git();
            command.args(["-c", "user.name=Ada Moss", "-c", "user.email=ada@norwick.example"]);
            let output = command.args(arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    #[test]
    fn history_has_changes_in_order() {
        let scratch = Scratch::new();
        let (old, new) = ("_posts/2020-01-02-a \"storm\".md", "content/posts/2020-01-02-storm.md");
        let text = "The harbour of Norwick is closed.\n".repeat(20);
        let changed = format!("{text}Again.\n");
        scratch.write(old, &text);
        scratch.commit();
        scratch.write(old, &changed);
        scratch.commit();
        scratch.rename(old, new);
        scratch.commit();
        scratch.write("elsewhere.md", "Nothing to follow.");
        scratch.commit();
        scratch.remove(new);
        scratch.commit();

        let repository = scratch.repository();
        let steps: Vec<Step> = repository.history().unwrap().collect::<Outcome<_>>().unwrap();
        let shapes: Vec<Vec<_>> = steps
            .iter()
            .map(|step| {
                let paths = |change: &FileChange| {
                    (change.old_path.clone(), change.file.as_ref().map(|file| file.path.clone()))
                };
                step.changes.iter().map(paths).collect()
            })
            .collect();
        let (before, after) = (Some(old.to_owned()), Some(new.to_owned()));
        assert_eq!(
            shapes,
            [
                [(None, before.clone())],
                [(None, before.clone())],
                [(before, after.clone())],
                [(after.clone(), None)]
            ]
        );

        let renamed = repository.tree(&steps[2].commit).unwrap();
        assert_eq!(renamed.len(), 1);
        assert_eq!(Some(renamed[0].path.clone()), after);
        let mut blobs = repository.blobs().unwrap();
        assert_eq!(blobs.read(&renamed[0].blob).unwrap(), Some(changed.into_bytes()));
        assert_eq!(blobs.read(&"1".repeat(40)).unwrap(), None);
        assert_eq!(repository.tree(&steps[3].commit).unwrap(), []);
    }

    #[test]
    fn a_missing_repository_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository(dir.path().to_owned());
        assert!(repository.history().unwrap().next().unwrap().is_err());
        assert!(repository.tree("HEAD").is_err());
    }
}
