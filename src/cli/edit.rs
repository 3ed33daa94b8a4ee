//! `cable article edit`: opens an article as Markdown in an editor, and puts it back if it is unchanged since.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use cable_client::{
    Cable, WriteOutcome,
    v1::{self, BodyFormat},
};
use cable_import::front_matter;
use clap::Args;

use super::{
    Error,
    changes::Comparison,
    document::{self, FileFormat},
    note,
    noun::{print_result, write_result},
    output::{Entity, Output},
};

/// The editor if the environment names none, as POSIX has it.
const DEFAULT_EDITOR: &str = "vi";

#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Id of the article.
    id: String,
    /// Write the body even if Markdown cannot express some of its blocks, which are then changed or lost.
    #[arg(long)]
    allow_loss: bool,
}

/// The words of a block that identify it for an editor.
const SHOWN_WORDS: usize = 5;

/// Runs the command.
pub(crate) async fn run(edit: Edit, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    let article = cable.article(edit.id).body_format(BodyFormat::Markdown).await?.into_inner();
    let body = article.rendered_body.as_ref().map_or("", |body| &body.text);
    let original = front_matter::write(&article, body);
    let file = create_file(&article, &original)?;
    run_editor(&file)?;
    let failed = |source| Error::io(format!("read {}", file.display()), source);
    if fs::read(&file).map_err(failed)? == original.as_bytes() {
        remove_file(&file)?;
        return note(&format!("{}: not changed", article.name));
    }
    let written = write_back(&file, &article, edit.allow_loss, cable).await;
    let written = written.map_err(|error| Error::Kept { error: Box::new(error), file: file.clone() })?;
    remove_file(&file)?;
    print_result(&write_result(&written), "put", output)
}

/// Creates the file to edit. It stays until its content is written.
fn create_file(article: &v1::Article, text: &str) -> Result<PathBuf, Error> {
    let failed = |source| Error::io("create a temporary file", source);
    let id = article.name.rsplit('/').next().unwrap_or_default();
    let prefix = format!("cable-{}-", id.chars().take(40).collect::<String>());
    let mut file = tempfile::Builder::new().prefix(&prefix).suffix(".md").tempfile().map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    let (_, path) = file.keep().map_err(|error| failed(error.error))?;
    Ok(path)
}

fn remove_file(file: &Path) -> Result<(), Error> {
    fs::remove_file(file).map_err(|source| Error::io(format!("remove {}", file.display()), source))
}

/// Runs the user's editor, whose setting may contain arguments, and waits for its end.
fn run_editor(file: &Path) -> Result<(), Error> {
    let set = |name| env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| DEFAULT_EDITOR.to_owned());
    let script = format!("{editor} \"$@\"");
    let status = Command::new("sh").args(["-c", &script, &editor]).arg(file).status();
    match status.map_err(|source| Error::io(format!("run the editor `{editor}`"), source))? {
        status if status.success() => Ok(()),
        status => Err(Error::Kept {
            error: Box::new(Error::Incomplete(format!(
                "the editor `{editor}` failed: {status}; nothing was written"
            ))),
            file: file.to_owned(),
        }),
    }
}

/// Writes the edited article under the etag of the original. If only fields have changed, they are patched: the body
/// then keeps all its blocks.
async fn write_back(
    file: &Path,
    original: &v1::Article,
    allow_loss: bool,
    cable: &Cable,
) -> Result<WriteOutcome, Error> {
    let mut documents = document::read::<v1::Article>(file, Some(FileFormat::Md))?;
    let document = documents.pop().unwrap_or_default();
    if document.name != original.name {
        return Err(Error::Usage(format!(
            "the name has changed from {} to {}",
            original.name, document.name
        )));
    }
    let changed = Comparison::of_articles(original, &document).changed_fields().unwrap_or_default();
    if !changed.iter().any(|field| field == "body") {
        return Ok(cable.patch(document.entity, changed).if_etag(&original.etag).await?);
    }
    if !allow_loss {
        check_loss(original, cable).await?;
    }
    let source = document.body_source();
    let call = cable.put(document.entity).if_etag(&original.etag);
    Ok(match source {
        Some(source) => call.body_source(source).await?,
        None => call.await?,
    })
}

/// Returns an error if the body has parts that are lost on the way through Markdown.
async fn check_loss(original: &v1::Article, cable: &Cable) -> Result<(), Error> {
    let article = cable.article(&original.name).await?.into_inner();
    let body = original.rendered_body.as_ref().map_or("", |body| &body.text);
    let converted = cable_body::convert(BodyFormat::Markdown, body).map(|converted| converted.body);
    let blocks = article.body.unwrap_or_default().blocks;
    let lost = match converted {
        Ok(converted) if converted.blocks == blocks => return Ok(()),
        Ok(converted) => {
            blocks.iter().filter(|block| !converted.blocks.contains(block)).map(first_words).collect()
        }
        Err(error) => vec![error.to_string()],
    };
    Err(Error::Usage(format!(
        "the body has parts that Markdown cannot express: {}; add --allow-loss to write it nevertheless, or edit its \
         JSON",
        lost.join(", ")
    )))
}

/// Returns the kind of a block with its first words.
fn first_words(block: &v1::Block) -> String {
    let message = Entity::of("cable.v1.Block", block).into_message();
    let kind = message.fields().map(|(field, _)| field.json_name().to_owned()).find(|name| name != "id");
    let text = cable_body::render(&v1::Body { blocks: vec![block.clone()] }, BodyFormat::PlainText);
    let words: Vec<&str> = text.split_whitespace().take(SHOWN_WORDS).collect();
    format!("{} \"{}\"", kind.unwrap_or_default(), words.join(" "))
}
