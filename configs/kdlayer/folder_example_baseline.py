# The student of folder_example.py on its own: the baseline.
_base_ = [
    '../_base_/models/small_resnets.py',
    '../_base_/datasets/folder.py',
    '../_base_/schedules/small_20e.py',
    '../_base_/runtime.py',
]
custom_hooks = []
model = dict(
    _base_.small_student, head=dict(_base_.small_student.head, num_classes=len(_base_.classes))
)
