"""InstructX Measure: numbers and a picture of what an edit changed."""

import torch
from kit import expect, run


def pair(frames=1):
    source = torch.rand(frames, 48, 64, 3, generator=torch.Generator().manual_seed(0)) * 0.5
    edited = source.clone()
    edited[:, :24, :32] += 0.4
    mask = torch.zeros(48, 64)
    mask[:24, :32] = 1
    return source, edited, mask


def check_an_edit_inside_its_mask():
    for frames in (1, 4):
        source, edited, mask = pair(frames)
        for given in (mask, mask[None], mask.expand(frames, -1, -1)):
            text, picture = run("Measure", source=source, edited=edited, mask=given)
            assert "region (mask): 25.0%" in text and "PSNR outside: 100.00 dB" in text
            assert "exclusivity: 1.0000" in text
            assert ("flicker outside: 0.0000" in text) == (frames > 1)
            assert picture.shape == source.shape and picture.min() >= 0 and picture.max() <= 1
            inside = mask.expand(frames, -1, -1) > 0
            assert (picture[inside][:, 1] > 0.9).all()  # green
            assert (picture[~inside][:, 0] == picture[~inside][:, 1]).all()  # grey


def check_damage_outside_is_red():
    source, edited, mask = pair()
    edited[:, 40:] += 0.3
    text, picture = run("Measure", source=source, edited=edited, mask=mask)
    assert "PSNR outside: 1" in text and "exclusivity: 0." in text
    assert (picture[:, 40:, :, 0] > 0.9).all()


def check_a_target_says_whether_it_succeeded():
    source, edited, _ = pair()
    text, _ = run("Measure", source=source, edited=edited, target=edited)
    assert "region (target)" in text and "success: yes" in text
    text, _ = run("Measure", source=source, edited=source, target=edited)
    assert "success: no" in text and "exclusivity" not in text


def check_alpha_and_other_sizes():
    source, edited, mask = pair()
    opaque = torch.cat([source, torch.ones_like(source[..., :1])], -1)
    assert (
        run("Measure", source=opaque, edited=edited, mask=mask)[0]
        == run("Measure", source=source, edited=edited, mask=mask)[0]
    )
    expect("InputError", "size and length", run, "Measure", source=source, edited=edited[:, :24])
    expect("InputError", "The mask is", run, "Measure", source=source, edited=edited, mask=mask[:24])
    expect("InputError", "target", run, "Measure", source=source, edited=edited, target=edited * float("nan"))
