"""Checks of the exercises in the chapters: they say what is wrong with an answer, not only that it is wrong.

Each check takes the reader's function or numbers, tries them on small cases or on stored runs, and compares
the result with the right one and with those of common mistakes. A right answer prints what it has shown. A
wrong one raises `NotYetError`, which Jupyter shows as one sentence, and which nbgrader counts as a failed
test.
"""

from segconf_lite.exercises.answers import Function as Function
from segconf_lite.exercises.answers import NotYetError as NotYetError
from segconf_lite.exercises.answers import _call as _call
from segconf_lite.exercises.answers import _compare as _compare
from segconf_lite.exercises.answers import _numbers as _numbers
from segconf_lite.exercises.chapter_01 import check_dice as check_dice
from segconf_lite.exercises.chapter_01 import check_n_test as check_n_test
from segconf_lite.exercises.chapter_01 import check_resample as check_resample
from segconf_lite.exercises.chapter_01 import check_smallest_change as check_smallest_change
from segconf_lite.exercises.chapter_02 import check_entropy as check_entropy
from segconf_lite.exercises.chapter_02 import check_misleading_numbers as check_misleading_numbers
from segconf_lite.exercises.chapter_02 import check_pass_rate as check_pass_rate
from segconf_lite.exercises.chapter_02 import check_selective_risk as check_selective_risk
from segconf_lite.exercises.chapter_02 import check_uncertainty as check_uncertainty
from segconf_lite.exercises.chapter_03 import check_distance as check_distance
from segconf_lite.exercises.chapter_03 import check_distortion as check_distortion
from segconf_lite.exercises.chapter_03 import check_harmless as check_harmless
from segconf_lite.exercises.chapter_03 import check_scanners as check_scanners
from segconf_lite.exercises.chapter_03 import check_threshold as check_threshold
from segconf_lite.exercises.chapter_04 import check_attack as check_attack
from segconf_lite.exercises.chapter_04 import check_controller as check_controller
from segconf_lite.exercises.chapter_04 import check_noise as check_noise
from segconf_lite.exercises.chapter_04 import check_step as check_step
from segconf_lite.exercises.chapter_05 import check_flip_cost as check_flip_cost
from segconf_lite.exercises.chapter_05 import check_mask_map as check_mask_map
from segconf_lite.exercises.chapter_05 import check_n_models as check_n_models
from segconf_lite.exercises.chapter_05 import check_parts as check_parts
from segconf_lite.exercises.chapter_11 import check_interval_over_people as check_interval_over_people
from segconf_lite.exercises.chapter_11 import check_people as check_people
from segconf_lite.exercises.chapter_11 import check_study as check_study
from segconf_lite.exercises.chapter_11 import check_training as check_training
from segconf_lite.exercises.chapter_12 import HOSPITALS as HOSPITALS
from segconf_lite.exercises.chapter_12 import check_one_per_patient as check_one_per_patient
from segconf_lite.exercises.chapter_12 import check_pattern as check_pattern
from segconf_lite.exercises.chapter_12 import check_silent_fault as check_silent_fault
from segconf_lite.exercises.chapter_12 import check_two_classes as check_two_classes
from segconf_lite.exercises.chapters_06_to_08 import check_blind_mask as check_blind_mask
from segconf_lite.exercises.chapters_06_to_08 import check_breaks as check_breaks
from segconf_lite.exercises.chapters_06_to_08 import check_epsilon as check_epsilon
from segconf_lite.exercises.chapters_06_to_08 import check_explained as check_explained
from segconf_lite.exercises.chapters_06_to_08 import check_fgsm as check_fgsm
from segconf_lite.exercises.chapters_06_to_08 import check_field as check_field
from segconf_lite.exercises.chapters_06_to_08 import check_flips as check_flips
from segconf_lite.exercises.chapters_06_to_08 import check_forward as check_forward
from segconf_lite.exercises.chapters_06_to_08 import check_noise_level as check_noise_level
from segconf_lite.exercises.chapters_06_to_08 import check_projection as check_projection
from segconf_lite.exercises.chapters_06_to_08 import check_radius as check_radius
from segconf_lite.exercises.chapters_06_to_08 import check_ratios as check_ratios
from segconf_lite.exercises.chapters_06_to_08 import check_sigma as check_sigma
from segconf_lite.exercises.chapters_09_and_10 import advised as advised
from segconf_lite.exercises.chapters_09_and_10 import check_aggregation as check_aggregation
from segconf_lite.exercises.chapters_09_and_10 import check_budgets as check_budgets
from segconf_lite.exercises.chapters_09_and_10 import check_eaurc as check_eaurc
from segconf_lite.exercises.chapters_09_and_10 import check_groups as check_groups
from segconf_lite.exercises.chapters_09_and_10 import check_harm as check_harm
from segconf_lite.exercises.chapters_09_and_10 import check_passes as check_passes
from segconf_lite.exercises.chapters_09_and_10 import check_quantile as check_quantile
from segconf_lite.exercises.chapters_09_and_10 import check_rank_mean as check_rank_mean
from segconf_lite.exercises.chapters_09_and_10 import check_regret as check_regret
from segconf_lite.exercises.chapters_09_and_10 import check_weighted as check_weighted
from segconf_lite.exercises.chapters_09_and_10 import check_weights as check_weights
from segconf_lite.exercises.chapters_09_and_10 import segmented as segmented
