"""The calls of the synchronous client. Written by generate.py: do not edit."""

from cable_client._blocking import Blocking, blocking, iterating
from cable_client.v1.calls import Calls


class SyncCalls(Blocking[Calls]):
    """The calls of cable.v1, each of which blocks."""

    get_article = blocking(Calls.get_article)
    batch_get_articles = blocking(Calls.batch_get_articles)
    list_articles = iterating(Calls.list_articles)
    resolve_path = blocking(Calls.resolve_path)
    get_author = blocking(Calls.get_author)
    list_authors = iterating(Calls.list_authors)
    get_section = blocking(Calls.get_section)
    list_sections = iterating(Calls.list_sections)
    get_tag = blocking(Calls.get_tag)
    list_tags = iterating(Calls.list_tags)
    get_collection = blocking(Calls.get_collection)
    list_collections = iterating(Calls.list_collections)
    put_article = blocking(Calls.put_article)
    patch_article = blocking(Calls.patch_article)
    remove_article = blocking(Calls.remove_article)
    put_author = blocking(Calls.put_author)
    remove_author = blocking(Calls.remove_author)
    put_section = blocking(Calls.put_section)
    remove_section = blocking(Calls.remove_section)
    put_tag = blocking(Calls.put_tag)
    remove_tag = blocking(Calls.remove_tag)
    put_collection = blocking(Calls.put_collection)
    remove_collection = blocking(Calls.remove_collection)
    commit = blocking(Calls.commit)
    get_pending = blocking(Calls.get_pending)
    list_pending = iterating(Calls.list_pending)
    remove_pending = blocking(Calls.remove_pending)
    get_status = blocking(Calls.get_status)
