"""The templates in the browser's order, each one function in its own file."""

from .any_nodes import any_nodes
from .bernini import bernini
from .bernini_over_a_long_video import bernini_over_a_long_video
from .crop_edit_stitch import crop_edit_stitch
from .edit_a_long_video import edit_a_long_video
from .edit_a_video import edit_a_video
from .edit_an_image import edit_an_image
from .edit_and_interpolate import edit_and_interpolate
from .edit_and_seedvr2 import edit_and_seedvr2
from .edit_and_upscale import edit_and_upscale
from .edit_in_a_loop import edit_in_a_loop
from .edit_inside_a_mask import edit_inside_a_mask
from .edit_strength import edit_strength
from .edit_with_a_reference import edit_with_a_reference
from .few_steps import few_steps
from .find_what_changed import find_what_changed
from .frames_like_the_first import frames_like_the_first
from .inpaint_a_long_video import inpaint_a_long_video
from .insightedit_image import insightedit_image
from .keep_the_subject import keep_the_subject
from .kiwi_image import kiwi_image
from .kiwi_reference import kiwi_reference
from .kiwi_video import kiwi_video
from .lingxi import lingxi
from .match_colours import match_colours
from .measure_an_edit import measure_an_edit
from .reference_on_a_video import reference_on_a_video
from .rewrite_the_prompt import rewrite_the_prompt
from .sam3_mask import sam3_mask
from .split_loaders import split_loaders
from .three_edits import three_edits
from .three_steps import three_steps
from .two_edits import two_edits
from .under_the_hood import under_the_hood
from .upscale_a_long_video import upscale_a_long_video

TEMPLATES = (
    edit_an_image,
    edit_a_video,
    edit_with_a_reference,
    edit_a_long_video,
    edit_inside_a_mask,
    reference_on_a_video,
    two_edits,
    edit_strength,
    crop_edit_stitch,
    find_what_changed,
    under_the_hood,
    kiwi_image,
    kiwi_video,
    kiwi_reference,
    sam3_mask,
    keep_the_subject,
    edit_and_upscale,
    edit_and_interpolate,
    rewrite_the_prompt,
    split_loaders,
    few_steps,
    any_nodes,
    edit_in_a_loop,
    match_colours,
    upscale_a_long_video,
    edit_and_seedvr2,
    bernini_over_a_long_video,
    inpaint_a_long_video,
    frames_like_the_first,
    bernini,
    three_edits,
    lingxi,
    measure_an_edit,
    three_steps,
    insightedit_image,
)
