"""Every family of mmpretrain as teacher and student: places are found, and what is there trains."""
