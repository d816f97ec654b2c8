# ResNet-20 alone.
_base_ = './_alone_.py'

model = _base_.student
