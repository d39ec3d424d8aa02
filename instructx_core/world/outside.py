"""Sentences that ask for nothing this world knows: the picture must not change.

They come in many kinds, so that all they share is that they do not belong to this world: requests about other things,
captions, questions, small talk, other languages, code, noise. Held-out seeds draw from a part of every word list that
training never sees.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

THINGS = (
    "dog", "cat", "horse", "bird", "car", "bus", "bicycle", "tree", "house", "bridge", "mountain", "river", "boat",
    "hat", "shirt", "dress", "shoe", "umbrella", "chair", "desk", "lamp", "sofa", "guitar", "piano", "phone",
    "laptop", "book", "cup", "bottle", "cake", "pizza", "apple", "banana", "flower", "rose", "grass", "road",
    "train", "plane", "robot", "dragon", "castle", "clock", "mirror", "window", "door", "pillow", "bag", "ring",
    "crown", "beard", "hair", "smile", "sunglasses", "elephant", "tiger", "rabbit", "fish", "butterfly", "sandwich",
    "violin", "truck", "statue", "fountain",
)  # fmt: skip
_PEOPLE = (
    "the man", "the woman", "her", "him", "the child", "the girl", "the boy", "my friend", "the singer",
    "the teacher", "the crowd", "the person on the left", "the bride", "the old man", "the dancer", "my sister",
)  # fmt: skip
_PLACES = (
    "on the beach", "in the kitchen", "behind the house", "on the table", "in the forest", "under the bridge",
    "at school", "on her head", "next to the car", "on the wall", "in the garden", "by the lake", "in space",
    "on the roof", "in Paris",
)  # fmt: skip
_QUALITIES = (
    "wooden", "metallic", "golden", "furry", "old", "tiny", "huge", "broken", "wet", "shiny", "striped",
    "transparent", "fluffy", "rusty", "elegant", "smiling", "angry", "sleeping", "muscular", "knitted", "frozen",
    "burning",
)  # fmt: skip
_REQUESTS = (
    "add a {thing} {place}",
    "remove the {thing}",
    "replace the {thing} with a {quality} {other}",
    "make {person} {quality}",
    "put a {thing} on {person}",
    "turn the {thing} into a {quality} {other}",
    "change the {thing} to a {other}",
    "let {person} hold a {thing}",
    "make the {thing} {quality}",
    "give {person} a {quality} {thing}",
    "rotate the {thing}",
    "move the {thing} to the {other}",
    "swap the {thing} and the {other}",
    "make {person} dance {place}",
    "write hello on the {thing}",
    "zoom in on {person}",
    "change the season to spring",
    "relight the {thing} from the left",
    "count the {thing}s",
    "upscale this to 4k",
    "stabilize the video",
    "make the {thing} float above the {other}",
)
_CAPTIONS = (
    "a {quality} {thing} {place}",
    "{person} with a {thing} {place}",
    "two {thing}s and a {quality} {other}",
    "a photo of a {thing}, highly detailed, 35mm",
    "portrait of {person} {place}, soft light",
    "an oil painting of a {quality} {thing}",
    "the {thing} stands {place}",
)
_QUESTIONS = (
    "where is the {thing}?",
    "what time is it?",
    "how old is {person}?",
    "why is the {thing} {quality}?",
    "who painted this?",
    "can you see a {thing} {place}?",
    "how much does a {quality} {thing} cost?",
    "is {person} happy?",
    "what is the capital of France?",
)
_TALK = (
    "hello", "hi there", "thank you very much", "good morning", "I do not know", "nice picture", "never mind", "ok",
    "yes", "no", "test", "lorem ipsum dolor sit amet", "as discussed yesterday", "see you tomorrow", "do nothing",
    "leave it as it is", "keep everything the same", "undo", "help", "I love this song", "it was raining all week",
    "please call me back", "the meeting is at noon", "happy birthday", "once upon a time", "what a day",
)  # fmt: skip
_FOREIGN = (
    "mach das Auto rot", "entferne den Hund", "wie geht es dir?", "ersetze den Baum durch ein Haus", "guten Morgen",
    "ajoute un chat sur la table", "bonjour tout le monde", "enlève le chapeau", "où est la gare?", "merci beaucoup",
    "pon un sombrero en la cabeza", "quita el coche", "buenos días", "cambia la camisa", "¿qué hora es?",
    "aggiungi un fiore", "togli la bottiglia", "buona sera", "voeg een fiets toe", "adicione um pássaro",
    "добавь собаку", "удали машину", "привет", "犬を追加して", "車を消して", "こんにちは", "고양이를 추가해",
    "안녕하세요", "أضف قطة", "मौसम कैसा है", "dodaj kota", "kedi ekle", "thêm một con mèo", "lisää koira",
    "在桌子上加一只猫", "把那辆车去掉", "今天天气怎么样", "你好", "谢谢你", "给她戴上帽子", "让他微笑", "换一件衣服",
    "一只狗在草地上跑", "这是哪里", "把树变成房子", "几点了", "我饿了", "把头发变长", "加一座山",
)  # fmt: skip
_CODE = (
    "print('hello')", "SELECT * FROM users;", "git push origin main", "x = 3 * y + 2", "<div>test</div>",
    "http://a.b/c", "null", "42", "3.14159", "def f(x): return x", "404 not found", "{{\"a\": 1}}", "1 + 1 = 2",
    "...", "???", "!!!", "#tag",
)  # fmt: skip


def outside_sentence(rng: np.random.Generator, held_out: bool) -> str:
    """One sentence; `held_out` draws from words and whole sentences that training never sees, in the same templates."""
    kind = rng.random()
    if kind < 0.1:
        return _noise(rng)
    if kind < 0.2:
        return _choose(rng, _TALK, held_out)
    if kind < 0.35:
        return _choose(rng, _FOREIGN, held_out)
    if kind < 0.4:
        return _choose(rng, _CODE, held_out)
    forms = _REQUESTS if kind < 0.75 else _CAPTIONS if kind < 0.88 else _QUESTIONS
    thing, other = (_choose(rng, THINGS, held_out) for _ in range(2))
    text = forms[rng.integers(len(forms))].format(
        thing=thing,
        other=other,
        person=_choose(rng, _PEOPLE, held_out),
        place=_choose(rng, _PLACES, held_out),
        quality=_choose(rng, _QUALITIES, held_out),
    )
    case = rng.random()
    text = text.upper() if case < 0.04 else text[0].upper() + text[1:] if case < 0.4 else text
    return text if text.endswith("?") else text + ("", ".", "!")[rng.integers(3)]


def _choose(rng: np.random.Generator, options: Sequence[str], held_out: bool) -> str:
    """Draw one of `options`, of which every fourth is held out."""
    fitting = [option for index, option in enumerate(options) if (index % 4 == 3) == held_out]
    return fitting[rng.integers(len(fitting))]


def _noise(rng: np.random.Generator) -> str:
    """Random letters: words of no language, or keys hit at random."""
    letters = list(string.ascii_lowercase if rng.random() < 0.7 else string.printable[:94])
    words = ("".join(rng.choice(letters, rng.integers(1, 9))) for _ in range(rng.integers(1, 7)))
    return " ".join(words)
