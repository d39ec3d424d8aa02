"""The nodes' door: what is refused or made right before it reaches a model, and what may come in several forms."""

from fractions import Fraction

import av
import numpy as np
import torch
from check_long_video import parts, scratch, video_file
from comfy_api.latest import InputImpl
from kit import BUNDLED, difference, example, expect, loaded, run, wired

import nodes as stock

ODD = (float("nan"), float("inf"), -float("inf"), 255.0, -7.0)


def fitted(source):
    """(IMAGE, FIT) at the size of these checks' sources, whatever the model's own is."""
    model, vae, _, _ = loaded(BUNDLED)
    return run("Fit", model=model, vae=vae, source=source, width=64, height=64)


def at(socket, value):
    """An input by its socket's name; further references come together."""
    return {"further": {socket: value}} if socket.startswith("reference_") else {socket: value}


def check_pictures_that_are_none_are_refused_at_every_socket():
    from instructx_pack.nodes.pixels import to_video

    image, instruction, _ = example("recolor")
    model, vae, mllm, _ = loaded(BUNDLED)
    patched, positive, negative, latent, fit = wired(BUNDLED, image, instruction)
    window = {**parts(), "instruction": instruction, "window": 5}
    see = {"model": patched, "positive": positive, "negative": negative, "vae": vae}
    sockets = [
        ("Fit", "source", {"model": model, "vae": vae}, True),
        ("MLLMGuidance", "source", {"mllm": mllm, "instruction": instruction}, True),
        ("MLLMGuidance", "reference", {"mllm": mllm, "instruction": instruction, "source": image}, False),
        ("MLLMGuidance", "reference_3", {"mllm": mllm, "instruction": instruction, "source": image}, False),
        ("Source", "source", {"model": model, "positive": positive, "negative": negative, "vae": vae}, False),
        ("Reference", "reference", see, False),
        ("Restore", "image", {"fit": fit}, False),
        ("Composite", "source", {"edited": image}, False),
        ("Composite", "edited", {"source": image}, False),
        ("SlidingWindow", "source", window, True),
        ("SlidingWindowImages", "source", window, False),
        ("SlidingWindowImages", "reference", {**window, "source": image}, False),
    ]
    for node, socket, given, takes_video in sockets:
        for number in ODD:
            broken = image.clone()
            broken[0, 5, 6, 1] = number
            if node != "SlidingWindow":
                expect("InputError", "at index [0, 5, 6, 1] (1 such values", run, node, **given, **at(socket, broken))
            if takes_video:
                video = to_video(broken, Fraction(8))
                expect("InputError", "at index [0, 5, 6, 1] (1 such values", run, node, **given, **at(socket, video))
        if node != "SlidingWindow":
            for odd in (image.int(), image > 0.5):
                expect("InputError", "give floats in [0, 1], or uint8", run, node, **given, **at(socket, odd))
            for odd in (image[0], image[:0], image[:, :0]):
                expect("InputError", "has no frames", run, node, **given, **at(socket, odd))
            expect("InputError", "colour channels", run, node, **given, **at(socket, image[..., :2]))
    for number in ODD[:3]:
        broken = latent["samples"].clone()
        broken.view(-1)[7] = number
        given = {"model": model, "positive": positive, "negative": negative}
        expect("InputError", "LATENT holds NaN", run, "Source", **given, source={"samples": broken})


def check_masks_in_every_form():
    from instructx_pack.nodes.conditioning import REFERENCES

    image, instruction, _ = example("reference_swap", frames=3)
    _, _, reference = example("reference_swap")
    edited = 1 - image
    mask = torch.zeros(64, 64)
    mask[10:40, 20:50] = 1
    patched, positive, negative, _, _ = wired(BUNDLED, example("reference_swap")[0], instruction)
    see = {"model": patched, "positive": positive, "negative": negative, "vae": loaded(BUNDLED)[1]}
    wanted = run("Composite", source=image, edited=edited, mask=mask[None])[0]
    seen = run("Reference", **see, reference=reference, mask=mask[None])[1]
    assert torch.equal(wanted[:, mask == 0], image[:, mask == 0])
    for given in (mask, mask[None].expand(3, -1, -1), mask.expand(3, 1, 64, 64), mask[None, ..., None], mask.bool()):
        result, used = run("Composite", source=image, edited=edited, mask=given)
        assert torch.equal(result, wanted)
        assert used.ndim == 3
        again = run("Reference", **see, reference=reference, mask=given)[1]
        assert torch.equal(again[0][1][REFERENCES], seen[0][1][REFERENCES])
    for given in (mask.expand(3, 3, 64, 64), mask[0], mask[None, :0]):
        expect("InputError", "The mask has the shape", run, "Composite", source=image, edited=edited, mask=given)
        expect("InputError", "The mask has the shape", run, "Reference", **see, reference=reference, mask=given)
    for number in ODD:
        broken = mask[None].clone()
        broken[0, 5, 6] = number
        expect("InputError", "at index [0, 5, 6]", run, "Composite", source=image, edited=edited, mask=broken)
        expect("InputError", "at index [0, 5, 6]", run, "Reference", **see, reference=reference, mask=broken)
    expect("InputError", "the type int64", run, "Composite", source=image, edited=edited, mask=mask.long())


def check_pictures_in_other_forms_are_made_right():
    image, _, _ = example("recolor", frames=3)
    levels = (image * 255).round()
    plain = levels / 255
    assert difference(fitted(levels.to(torch.uint8))[0], fitted(plain)[0]) == 0
    assert difference(fitted(plain[..., :1])[0], fitted(plain[..., :1].repeat(1, 1, 1, 3))[0]) == 0
    assert difference(fitted(plain * 1.2 - 0.1)[0], fitted((plain * 1.2 - 0.1).clamp(0, 1))[0]) == 0  # resampled
    alpha = torch.ones(3, 64, 64, 1)
    alpha[:, :, :32] = 0
    shown = fitted(torch.cat([plain, alpha], dim=-1))[0]
    assert (shown[:, :, :30] == 1).all()
    picture, edited = torch.cat([plain, alpha], dim=-1), plain.clone()
    edited[:, :, :32] = 1
    edited[:, 20:40, 30:50] = 1 - edited[:, 20:40, 30:50].round()
    result, mask = run("Composite", source=picture, edited=edited)
    assert result.shape == picture.shape
    assert mask.any()
    assert torch.equal(result[mask == 0], picture[mask == 0])


def check_several_tries_in_a_batch():
    """One source, its LATENT three times: three edits, each as it would come alone."""
    for frames in (1, 5):
        image, instruction, _ = example("recolor", frames=frames)
        patched, positive, negative, latent, fit = wired(BUNDLED, image, instruction, width=64, height=64)
        batch = {"samples": latent["samples"].repeat(3, 1, 1, 1, 1)}
        given = {"model": patched, "positive": positive, "negative": negative}
        (tried,) = run("Sampler", **given, latent=batch, seed=3)
        vae = loaded(BUNDLED)[1]
        (decoded,) = stock.VAEDecode().decode(vae, tried)
        restored, video, *_ = run("Restore", image=decoded, fit=fit)
        assert restored.shape == (3 * frames, 64, 64, 3)
        assert len(video.get_components().images) == 3 * frames
        each = decoded.reshape(3, fit.plan.padded_frames, *decoded.shape[-3:])
        alone = torch.cat([run("Restore", image=one, fit=fit)[0] for one in each])
        assert torch.equal(restored, alone)
        assert torch.equal(run("Restore", image=each, fit=fit)[0], alone)  # as a VAE gives them
        assert not torch.equal(restored[:frames], restored[frames : 2 * frames])
    expect("InputError", "or several edits of that length", run, "Restore", image=decoded[:-1], fit=fit)


def check_sound_to_several_tries():
    from instructx_pack.nodes.pixels import to_video

    image, _, _ = example("recolor", frames=5)
    for length in (900, 1000, 1100):  # of 1000 that five frames last
        wave = torch.rand(1, 2, length)
        shown, fit = fitted(to_video(image, Fraction(5), {"waveform": wave, "sample_rate": 1000}))
        _, video, audio, fps = run("Restore", image=torch.cat([shown, shown]), fit=fit)
        heard = video.get_components().audio["waveform"]
        assert torch.equal(audio["waveform"], heard)
        assert fps == 5.0
        assert heard.shape == (1, 2, 2000)
        assert torch.equal(heard[..., : min(length, 1000)], wave[..., :1000])
        assert torch.equal(heard[..., :1000], heard[..., 1000:])


def check_frames_without_a_rate_and_sound_of_another_shape_are_refused():
    from instructx_pack.nodes.footage import footage_of
    from instructx_pack.nodes.pixels import to_video

    def looked_at(frame_rate, shape, sample_rate):
        audio = {"waveform": torch.zeros(shape), "sample_rate": sample_rate}
        with footage_of(to_video(example("recolor", frames=5)[0], frame_rate, audio)):
            pass

    looked_at(Fraction(8), (1, 2, 100), 1000)
    expect("InputError", "0 frames a second", looked_at, Fraction(0), (1, 2, 100), 1000)
    for shape, rate in (((2, 100), 1000), ((1, 0, 100), 1000), ((1, 2, 100), 0)):
        expect("InputError", "sound has the shape", looked_at, Fraction(8), shape, rate)


def sounding(folder, times, seconds, name="clip.mp4"):
    """A file of frames at these times in hundredths, brighter one by one, with a tone of 48,000 samples a second."""
    path = folder / name
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        track = output.add_stream("aac", rate=48000, layout="stereo")
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 + 4 * index, np.uint8))
            frame.pts, frame.time_base = time, Fraction(1, 100)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        wave = (np.sin(np.arange(round(48000 * seconds)) / 48000 * 440 * 2 * np.pi) * 8000).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
        sound.sample_rate, sound.pts, sound.time_base = 48000, 0, Fraction(1, 48000)
        output.mux(track.encode(sound))
        output.mux(track.encode(None))
    return path


def check_a_varying_frame_rate_stays_in_time_with_the_sound():
    path = sounding(scratch("varying"), [0, 4, 8, 12, 16, 164], 1.68)
    shown, fit = fitted(InputImpl.VideoFromFile(str(path)))
    assert fit.plan.frames == 42
    _, video, *_ = run("Restore", image=shown, fit=fit, keep_source=False)
    out = video.get_components()
    assert out.frame_rate == 25
    levels = (out.images.mean((1, 2, 3)) * 255).round().int().tolist()
    expected = [20, 24, 28, 32, *[36] * 37, 40]
    assert all(abs(one - other) <= 4 for one, other in zip(levels, expected, strict=True)), levels
    assert abs(out.audio["waveform"].shape[-1] - 1.68 * 48000) <= 1024
    whole, fit = fitted(InputImpl.VideoFromFile(str(sounding(scratch("constant"), range(0, 40, 4), 0.4))))
    assert (fit.plan.frames, fit.frame_rate) == (10, 25)
    del whole


def check_a_part_of_a_video_keeps_all_its_sound():
    path = sounding(scratch("part"), range(0, 200, 4), 2)
    part = InputImpl.VideoFromFile(str(path), start_time=0.4, duration=1.0)
    _, fit = fitted(part)
    assert fit.plan.frames == 25
    assert fit.audio["waveform"].shape[-1] == 48000
    given = {**parts(), "instruction": "make it grayscale", "window": 13, "steps": 1}
    (video,) = run("SlidingWindow", **given, source=part)
    assert len(video.get_components().images) == 25
    with av.open(video.get_stream_source()) as file:  # ComfyUI 0.15.1 itself reads no more than a packet of it
        samples = sum(frame.samples for frame in file.decode(audio=0))
    assert 48000 <= samples < 48000 + 1024  # what AAC fills its last packet with
    (again,) = run("SlidingWindow", **given, source=InputImpl.VideoFromFile(str(path), start_time=0.44, duration=1.0))
    assert again.get_stream_source() != video.get_stream_source()
    past = InputImpl.VideoFromFile(str(path), start_time=9.0, duration=1.0)
    expect("InputError", "has no frames from 9 s to 10 s", run, "SlidingWindow", **given, source=past)
    expect("InputError", "has no frames from 9 s to 10 s", fitted, past)


def check_files_that_are_no_videos():
    """An mp3 (with a cover picture too), a text, a playlist that names another file: one sentence at every door."""
    folder = scratch("foreign")
    music, text, playlist = folder / "a.mp3", folder / "a.txt", folder / "a.m3u8"
    with av.open(str(music), "w") as output:
        track = output.add_stream("mp3", rate=48000, layout="stereo")
        cover = output.add_stream("mjpeg")
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8)).reformat(format="yuvj420p")
        picture.pts = 0
        output.mux(cover.encode(picture))
        output.mux(cover.encode(None))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 96000), np.int16), format="s16", layout="stereo")
        sound.sample_rate, sound.pts = 48000, 0
        output.mux(track.encode(sound))
        output.mux(track.encode(None))
    text.write_text("no video")
    clip = video_file(folder, example("recolor", frames=5)[0])
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n")
    given = {**parts(), "instruction": "make it grayscale"}
    for path, words in ((music, "only sound"), (text, "neither an image nor a video"), (playlist, "playlist")):
        for source in (InputImpl.VideoFromFile(str(path)), InputImpl.VideoFromFile(str(path), duration=0.5)):
            expect("InputError", words, fitted, source)
            expect("InputError", words, run, "SlidingWindow", **given, source=source)


def check_alpha_of_a_video_lies_on_white():
    """As a picture's does: from a file, and from frames that carry it beside them."""
    from comfy_api.latest import Types

    path = scratch("alpha") / "clip.mov"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("prores_ks", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuva444p10le"
        pixels = np.zeros((64, 64, 4), np.uint8)
        pixels[..., 0] = 255
        pixels[:, 32:, 3] = 255
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format="yuva444p10le")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    shown, _ = fitted(InputImpl.VideoFromFile(str(path)))
    assert (shown[:, 20:40, 4:28] > 0.97).all()
    assert (shown[:, 20:40, 36:60, 1] < 0.1).all()
    frames = torch.from_numpy(pixels[None].repeat(5, 0)) / 255
    components = {"images": frames[..., :3], "frame_rate": Fraction(8)}
    if "alpha" in Types.VideoComponents.__dataclass_fields__:
        for alpha in (frames[..., 3:], frames[..., 3]):
            video = InputImpl.VideoFromComponents(Types.VideoComponents(**components, alpha=alpha))
            held = Types.VideoComponents(**components, alpha=alpha)
            video.get_components = lambda held=held: held  # core leaves alpha out here, other packs need not
            assert (fitted(video)[0][:, 20:40, 4:28] == 1).all()
