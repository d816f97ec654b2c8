# Logit distillation, as mmrazor ships it.
_base_ = 'mmrazor::distill/mmcls/kd/kd_logits_resnet50_shufflenet-v2-1x_16xb64_in1k.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)
