# Weighted soft labels (WSLD), as mmrazor ships it.
_base_ = 'mmrazor::distill/mmcls/wsld/wsld_logits_resnet34_resnet18_8xb32_in1k.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)

# Downloaded once, as teacher_ckpt, and not when the model is built too.
model = dict(teacher=dict(pretrained=False))
