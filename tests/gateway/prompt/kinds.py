"""Small tokenizers of every kind that models come with, built here."""

from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|im_end|><|x|>", "<s>", "</s>"]
CORPUS = [
    "the quick brown fox jumps over the lazy dog's 123 back\n\n  twice",
    "Grüße aus 北京, 你好 hello world, im_end user assistant system",
    "def f(x):\n    return x ** 2  # tabs\tand spaces",
]
SPLIT = Regex(r"'s|\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def byte_level_bpe() -> Tokenizer:
    """As Qwen's and Llama 3's: a regular expression, bytes, merges; text is composed first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(SPLIT, "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def spaced_byte_level_bpe() -> Tokenizer:
    """A space before the first word of every part, as RoBERTa's relatives do; a token before and after every text."""
    tokenizer = byte_level_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.add_special_tokens(SPECIAL)
    ends = [(name, tokenizer.token_to_id(name) or 0) for name in ("</s>", "<s>")]
    tokenizer.post_processor = processors.RobertaProcessing(ends[0], ends[1])
    return tokenizer


def unigram(scheme: str = "first") -> Tokenizer:
    """As SentencePiece's: spaces become visible; a text begins with one, and each of its parts unless it is "first"."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=120, unk_token="<unk>", special_tokens=["<unk>", *SPECIAL], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def llama2_bpe() -> Tokenizer:
    """Bytes as a last resort, and a normaliser instead of a pre-tokenizer."""
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": 1 + byte for byte in range(256)}}
    for piece in ["▁", *"abcdefghijklmnopqrstuvwxyz", "▁t", "he", "▁the"]:
        vocabulary.setdefault(piece, len(vocabulary))
    tokenizer = Tokenizer(
        models.BPE(vocabulary, [("▁", "t"), ("h", "e"), ("▁t", "he")], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def word_piece() -> Tokenizer:
    """As BERT's: lower case, pieces of words, a token before and after every text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=[*names, *SPECIAL], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, tokenizer.token_to_id(name)) for name in names[1:]]
    )
    return tokenizer


def byte_level_with_odd_tokens() -> Tokenizer:
    """Added tokens that reach over their own edges, or are sought in the normalised text."""
    tokenizer = byte_level_bpe()
    odd = [
        AddedToken("<left>", lstrip=True, special=True),
        AddedToken("<right>", rstrip=True, special=True),
        AddedToken("\n\n\n", normalized=False),
        AddedToken("Ünormal", normalized=True),
    ]
    tokenizer.add_tokens(odd)
    return tokenizer


KINDS: Mapping[str, Callable[[], Tokenizer]] = {
    "byte-level BPE": byte_level_bpe,
    "byte-level BPE with spaces": spaced_byte_level_bpe,
    "unigram, first": unigram,
    "unigram, always": lambda: unigram("always"),
    "BPE with byte fallback": llama2_bpe,
    "WordPiece": word_piece,
    "odd tokens": byte_level_with_odd_tokens,
}


def wrapped(tokenizer: Tokenizer, **fields: Any) -> Any:
    """As transformers would load it, with the special tokens of a chat model."""
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **fields)
