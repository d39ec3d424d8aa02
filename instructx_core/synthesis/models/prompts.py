"""Our prompts for MLLMs and redrawers; a config's `prompts` replaces any of them by name.

Slots in braces are filled in; an MLLM answers each prompt with one JSON object.
"""

PROMPTS = {
    "caption": (
        "Describe what these frames of one clip (or this picture) show, in one or two plain sentences. "
        'Answer with a JSON object: {"caption": "..."}'
    ),
    "subjects": (
        "List up to {most} separate things that an editor could take out of this clip or exchange: whole "
        "objects, animals "
        "or people that are clearly visible from the first frame on, no parts of the ground or sky. The best "
        "one first. "
        "For each give its kind in one word, a short name that fits nothing else in the picture, one sentence with its "
        "look and place, and whether it is a person. Answer with a JSON object: "
        '{"subjects": [{"category": "...", "simple": "...", "detailed": "...", "person": false}]}'
    ),
    "alternative": (
        'In this clip the "{simple}" is to be exchanged for something else of about the same size that could well be '
        "there, and looks clearly different. Answer with a JSON object: "
        '{"category": "...", "simple": "...", "detailed": "...", "person": false}'
    ),
    "restyle": (
        "Think of one change of the {look} of this clip that suits it: {about}. Write it as a request of at "
        "most twelve "
        'words. Where it is about one thing alone, name that thing. Answer with a JSON object: {"request": "...", '
        '"thing": "..."}, with an empty thing where it is about the whole picture.'
    ),
    "instruct": (
        "The first clip was edited into the second: {what}. Write the request that a person would have made for that, "
        "in at most fifteen words, such that it is clear which thing is meant and where a new one stands. "
        'Answer with a JSON object: {"request": "..."}'
    ),
    "recaption": (
        'A person asks for this edit: "{sentence}". It is about: {detailed}. Write it again in three ways, '
        "each of at most "
        "twenty words: in other short words; with the full description in place of the name; and so that one "
        "has to look "
        "at the picture and think to know which thing is meant, without its name. Answer with a JSON object: "
        '{"simple": "...", "understanding": "...", "reasoning": "..."}'
    ),
    "rate": (
        'An editor was asked: "{sentence}". You see the clip (or picture) before and after. Rate three '
        "things from 0 to "
        "10: follow (all that was asked for was done, and on the right thing), preserve (nothing else has changed), "
        "quality (no smears, ghosts, seams or flicker; it looks real). Be strict: 10 is without any fault. "
        'Answer with a JSON object: {"follow": 0, "preserve": 0, "quality": 0}'
    ),
    "portray": (
        "Show the {name} alone, the very same one, from a slightly different angle, on a plain neutral background."
    ),
}
LOOKS = {
    "colour": "another colour of one clearly visible thing",
    "style": "another way in which it could be drawn, painted or filmed",
    "tone": "another light, weather, season or time of day",
}
TASKS = {
    "remove": "the {old} was removed",
    "add": "the {old} was added",
    "reference_add": "the {old} was added, which a reference picture shows; say 'in the reference picture' for its "
    "look",
    "swap": "the {old} was replaced with the {new}",
    "reference_swap": "the {old} was replaced with the {new}, which a reference picture shows; say 'in the reference "
    "picture' for its look",
}
