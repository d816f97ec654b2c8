# The student of folder_example.py on its own: the baseline.
_base_ = [
    '../_base_/models/small_resnets.py',
    '../_base_/schedules/small_20e.py',
    '../_base_/plain_runtime.py']
model = _base_.small_student
