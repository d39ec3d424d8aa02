"""Chinese wordings of every edit. Measure words aside, templates have the same slots as the English ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .language import draw_form, pick
from .scenes import Canvas, Object, Scene

WORDS: dict[str, tuple[str, ...]] = {
    "red": ("红色", "红"), "green": ("绿色", "绿"), "blue": ("蓝色", "蓝"), "yellow": ("黄色", "黄"),
    "purple": ("紫色", "紫"), "orange": ("橙色", "橘色"), "white": ("白色", "白"),
    "gray": ("灰色",), "teal": ("青色", "蓝绿色"), "brown": ("棕色", "褐色"), "navy": ("藏青色", "深蓝色"),
    "pink": ("粉色", "粉红色"), "olive": ("橄榄绿", "橄榄色"),
    "circle": ("圆形", "圆", "圆圈", "球"), "square": ("正方形", "方块", "方形"), "triangle": ("三角形", "三角"),
    "star": ("星形", "星星", "五角星"),
    "top left": ("左上角", "左上方"), "top right": ("右上角", "右上方"), "bottom left": ("左下角", "左下方"),
    "bottom right": ("右下角", "右下方"), "center": ("中间", "中央", "正中"),
}  # fmt: skip
NOUNS = ("图形", "形状", "物体", "那个")
IMAGE_MEDIA = ("图片", "画面", "图像", "照片")
VIDEO_MEDIA = ("视频", "画面", "片子", "视频")
SUBJECTS = ("参考图中的物体", "参考图里的图形", "参考图片中的形状", "参考图里的东西")
PHRASES: dict[str, tuple[str, ...]] = {
    "recolor": (
        "把{name}变成{colour}",
        "把{name}改成{colour}",
        "将{name}变为{colour}",
        "把{name}的颜色改成{colour}",
        "把{name}涂成{colour}",
        "让{name}变成{colour}",
    ),
    "remove": ("去掉{name}", "删除{name}", "把{name}删掉", "移除{name}", "把{name}去掉", "让{name}消失", "擦掉{name}"),
    "add": (
        "在{spot}加一个{thing}",
        "在{spot}添加一个{thing}",
        "在{medium}{spot}画一个{thing}",
        "在{spot}放一个{thing}",
        "{spot}加上一个{thing}",
    ),
    "replace": (
        "把{name}换成{thing}",
        "将{name}替换为{thing}",
        "用{thing}代替{name}",
        "把{name}替换成一个{thing}",
        "让{name}变成{thing}",
    ),
    "background": (
        "把背景变成{colour}",
        "把背景改成{colour}",
        "将背景换成{colour}",
        "背景换成{colour}",
        "把背景颜色改为{colour}",
        "把{medium}的背景涂成{colour}",
    ),
    "grayscale": ("变成黑白", "把{medium}变成黑白", "把{medium}转成灰度", "改成黑白{medium}", "去掉所有颜色"),
    "invert": ("反转颜色", "把颜色反过来", "把{medium}变成负片", "对{medium}反相", "颜色反相"),
    "reference_swap": (
        "把{name}换成{subject}",
        "用{subject}替换{name}",
        "将{name}替换为{subject}",
        "把{name}变成{subject}",
    ),
    "reference_add": (
        "在{spot}加上{subject}",
        "把{subject}放在{spot}",
        "在{spot}添加{subject}",
        "在{spot}画上{subject}",
    ),
    "sepia": ("变成棕褐色调", "把{medium}变成复古色", "加上怀旧滤镜", "把{medium}做成老照片的效果"),
    "warmer": ("色调暖一点", "让{medium}更暖", "把{medium}调成暖色调", "颜色变暖"),
    "cooler": ("色调冷一点", "让{medium}更冷", "把{medium}调成冷色调", "颜色变冷"),
    "brighter": ("亮一点", "把{medium}调亮", "让{medium}更亮", "提高亮度"),
    "darker": ("暗一点", "把{medium}调暗", "让{medium}更暗", "降低亮度"),
    "contrast": ("提高对比度", "增加对比度", "让{medium}的对比更强", "对比度高一点"),
    "night": ("变成夜晚", "把{medium}变成晚上", "把白天变成黑夜", "改成夜景"),
    "sketch": ("变成铅笔素描", "把{medium}变成素描", "画成铅笔画", "转成素描风格"),
    "posterised": ("做成海报效果", "把{medium}色调分离", "把{medium}减少到几种颜色", "变成海报风格"),
    "cartoon": ("变成卡通", "把{medium}变成漫画", "转成卡通风格", "画成漫画"),
    "pixelated": ("变成像素风", "把{medium}像素化", "做成像素画", "给{medium}打上马赛克"),
    "blurred background": ("模糊背景", "把背景虚化", "让背景变模糊", "虚化{medium}的背景"),
    "fog": ("加一点雾", "让{medium}起雾", "把天气变成雾天", "加上雾气"),
    "snow": ("下雪", "让{medium}下雪", "加上雪花", "把天气变成下雪"),
    "segment": ("显示{name}的遮罩", "分割{name}", "生成{name}的蒙版", "把{name}抠成黑白遮罩", "给出{name}的掩码"),
}  # fmt: skip
JOINERS = (
    "{first}，然后{second}",
    "{first}，再{second}",
    "先{first}，再{second}",
    "{first}并{second}",
    "{first}，{second}",
)
POLITE = ("请{text}", "帮我{text}", "请帮我{text}", "麻烦{text}", "{text}，谢谢", "能不能{text}？", "我想{text}")


def word(rng: np.random.Generator, english: str) -> str:
    return pick(rng, WORDS[english])


def name_object(rng: np.random.Generator, target: Object, scenes: Iterable[Scene]) -> str:
    """A name that fits `target` but no other object in any of `scenes`."""
    form = draw_form(rng, target, scenes)
    if form == "shape":
        return word(rng, target.shape)
    link = "的" if rng.random() < 0.4 else ""
    if form == "colour":
        return f"{WORDS[target.colour][0]}的{pick(rng, NOUNS)}"
    return f"{word(rng, target.colour)}{link}{word(rng, target.shape)}"


def phrase(
    rng: np.random.Generator,
    kind: str,
    canvas: Canvas,
    *,
    statement: bool = False,
    name: str = "",
    colour: str = "",
    shape: str = "",
    thing: str = "",
    spot: str = "",
) -> str:
    """One wording of an edit; `name` is already Chinese, the other words English. Statements are worded the same."""
    template = pick(rng, PHRASES[kind])
    return template.format(
        name=name,
        colour=word(rng, colour) if colour else "",
        thing="".join(word(rng, part) for part in thing.split()),
        spot=word(rng, spot) if spot else "",
        medium=pick(rng, IMAGE_MEDIA if canvas.frames == 1 else VIDEO_MEDIA),
        subject=pick(rng, SUBJECTS),
    )


def style(rng: np.random.Generator, text: str, *, polite: bool) -> str:
    """Vary punctuation as people do; `polite` allows wordings such as "请..."."""
    if polite and rng.random() < 0.2:
        text = pick(rng, POLITE).format(text=text)
    if text.endswith("？"):
        return text
    return text + ("", "。", "！")[int(np.searchsorted((0.6, 0.92), rng.random(), side="right"))]
