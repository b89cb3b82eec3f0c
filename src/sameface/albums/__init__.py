"""Albums: the faces of a folder of photographs, their groups and names, kept in one file beside the folder."""
