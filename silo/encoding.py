"""Documents to what the datastore takes: tokens, keys and sentences, one document at a time.

The one place where text becomes entries. A document is encoded alone, so its entries are
the same bytes whatever is stored beside it.
"""

import numpy as np

from datastore.records import DocumentFacts, EncodedDocument
from silo.documents import Document
from silo.licenses import classify
from silo.lm import LanguageModel
from silo.sentences import sentence_spans
from silo.tokenizer import Tokens, tokenize


def facts_of(document: Document) -> DocumentFacts:
    """What the datastore keeps of ``document`` besides its text; the risk class is decided here, from its license."""
    return DocumentFacts(
        id=document.id,
        digest=document.digest,
        license=document.license,
        risk=str(classify(document.license).risk),
        source=document.source,
        title=document.title,
        owner=document.owner,
        url=document.url,
        metadata=document.metadata,
    )


def encode_document(lm: LanguageModel, document: Document) -> EncodedDocument:
    """The entries of ``document``: key *i* is the LM's context after token *i*, its value token *i* + 1.

    The value of the last entry is the end of the document. A token is in the sentence of its first character that
    is no white space: byte-level tokenizers join the space after a sentence to the next one's first word, which would
    otherwise be owed to the wrong sentence, and stay when its own is taken out.
    """
    tokens = tokenize(lm.tokenizer, document.text)
    sentences = np.asarray(sentence_spans(document.text), dtype=np.int64).reshape(-1, 2)
    token_sentences = np.searchsorted(sentences[:, 0], _word_starts(document.text, tokens), side="right") - 1
    last = max(len(sentences) - 1, 0)
    return EncodedDocument(
        facts=facts_of(document),
        text=document.text,
        tokens=np.append(tokens.ids, lm.boundary),
        keys=lm.encode(tokens.ids) if len(tokens) else np.empty((0, lm.dimension), np.float16),
        sentences=sentences,
        token_sentences=np.append(token_sentences, last).astype(np.int64),
    )


def _word_starts(text: str, tokens: Tokens) -> np.ndarray:
    """The first character of each token that is no white space; of a token of white space alone, its first."""
    indices = np.array([i for i, character in enumerate(text) if not character.isspace()] + [len(text)], dtype=np.int64)
    first = indices[np.searchsorted(indices, tokens.starts)]
    return np.maximum.accumulate(np.where(first < tokens.ends, first, tokens.starts))
